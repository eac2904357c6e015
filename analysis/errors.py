"""The one mistake a reader of results can make: asking before there is anything to read."""


class NothingToReport(Exception):
    """No finished trial to report on; the command line turns it into its own exit code."""
