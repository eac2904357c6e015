"""Named data sets, one file each: what people are told of it, how it is found and listed."""
