"""The web page in a real browser: Chromium without a screen, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def opened(path: Path, width: int = 1440, scheme: str = "light") -> Iterator:
    """Open a page, and fail if it asked for anything but itself or the browser complained of anything.

    Args:
        path: of the page.
        width: of the window, in px.
        scheme: the system's theme, light or dark.

    Yields:
        Playwright's page.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser found ({', '.join(BROWSERS)})")
    complaints = []
    # Chromium's sandbox refuses to run as root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            reduced_motion="reduce",
            accept_downloads=True,
        )
        page = context.new_page()
        page.set_default_timeout(120_000)  # of a machine with much else to do
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(("file:", "data:", "blob:")) else complaints.append(request.url)
            ),
        )
        page.goto(path.as_uri())
        yield page
        browser.close()
    assert not complaints, complaints


def scroll_through(page) -> None:
    """Scroll from chart to chart, as a reader does, so that all are drawn."""
    page.evaluate(
        """async () => {
            for (const plot of document.querySelectorAll('.plot')) {
                while (!plot.dataset.drawn) {
                    plot.scrollIntoView();
                    await new Promise((next) => setTimeout(next, 20));
                }
            }
        }"""
    )


def painted(page) -> list[int]:
    """Return for each chart how many of its pixels are drawn."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.plot')].map((plot) => {
            let drawn = 0;
            for (const canvas of plot.querySelectorAll('canvas')) {
                const { width, height } = canvas;
                const copy = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
                copy.drawImage(canvas, 0, 0);
                const pixels = copy.getImageData(0, 0, width, height).data;
                for (let place = 3; place < pixels.length; place += 4) drawn += pixels[place] > 0;
            }
            return drawn;
        })"""
    )
