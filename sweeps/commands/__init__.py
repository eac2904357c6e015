"""The command line: words become a request, an outcome becomes words and an exit code."""
