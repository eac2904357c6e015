"""Reading a report's page, and writing reports quickly."""

from html.parser import HTMLParser

from analysis.figures import drawing


class Page(HTMLParser):
    """The tags and words of a page, in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def only_svg(monkeypatch):
    """Only the SVG is drawn: the other two formats take most of the time and have a test of their own."""
    save = drawing._saved
    monkeypatch.setattr(
        drawing, "_saved", lambda f, suffix, *a, **k: save(f, suffix, *a, **k) if suffix == "svg" else b""
    )
