"""From trials to estimates: one question a file, frames in and out."""
