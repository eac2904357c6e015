"""The report of a run: pages made of blocks, rendered as HTML, Markdown, LaTeX and for the terminal."""
