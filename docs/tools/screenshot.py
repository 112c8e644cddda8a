"""Takes pictures of the page of `roundsman demo` in Chromium: docs/page.png, or with a folder as argument all pages in all
forms, to look at. The data are simulated.
"""

import base64
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By

README = Path(__file__).parents[1] / "page.png"
WARM = 75
"""Seconds that the demo runs before: until each vendor has had failures, and requests have been counted."""
PAGES = ("/", "/sources", "/source/newsletter", "/sink/archive", "/failures", "/log", "/event/3", "/login")
TICK_OFF = """
const sent = [...document.querySelectorAll(".act form")].slice(3).map(
  (form) => fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) }));
Promise.all(sent).then(arguments[0]);
"""
"""Ticks off all failures but the newest three."""
WITHOUT_GLYPH = "\uff20"
"""Stands for an `@` in a broken address. Few fonts of a server have it."""
PAPER = 718
"""Pixels between the margins of a sheet of A4."""
OPTIONS = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-dev-shm-usage --hide-scrollbars --lang=en"


def browser() -> Any:
    options = webdriver.ChromeOptions()
    options.add_experimental_option("binary", shutil.which("chromium") or "chromium")
    for each in OPTIONS.split():
        options.add_argument(each)
    return webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    )


def look(driver: Any, width: int, scheme: str = "light", medium: str = "") -> None:
    """As at this width, light or dark, on the screen or printed."""
    media = {"media": medium, "features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def shoot(driver: Any, path: Path, **clip: Any) -> None:
    """The whole page as it is open, or a part of it."""
    found = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, **clip})
    path.write_bytes(base64.b64decode(found["data"]))


def log_in(driver: Any, user: str, password: str) -> None:
    driver.find_element(By.ID, "user").send_keys(user)
    driver.find_element(By.ID, "secret").send_keys(password)
    driver.find_element(By.CSS_SELECTOR, "form.login button").click()


def every(driver: Any, url: str, folder: Path) -> None:
    """All pages, wide and small, light and dark, and printed."""
    folder.mkdir(exist_ok=True)
    for page in PAGES:
        if page == "/login":
            driver.delete_all_cookies()
        driver.get(url + page)
        name = page.strip("/").replace("/", "-") or "home"
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                look(driver, width, scheme)
                shoot(driver, folder / f"{name}-{width}-{scheme}.png")
        look(driver, PAPER, medium="print")
        shoot(driver, folder / f"{name}-print.png")


def first(driver: Any, url: str) -> None:
    """The first page down to some events, with a few failures left open."""
    look(driver, 1280)
    shown = WITHOUT_GLYPH
    while WITHOUT_GLYPH in shown:
        driver.get(f"{url}/failures")
        driver.execute_async_script(TICK_OFF)
        driver.get(url)
        shown = driver.find_element(By.ID, "main").text
    last = driver.find_element(By.CSS_SELECTOR, "#events li:nth-child(3)").rect
    height = last["y"] + last["height"] + 2
    shoot(driver, README, clip={"x": 0, "y": 0, "width": 1280, "height": height, "scale": 1})


def main() -> None:
    command = [sys.executable, "-m", "roundsman", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:  # noqa: S603 - our own program
        assert demo.stdout is not None
        line = next(each for each in demo.stdout if each.startswith("The page for a browser"))
        url, user, password = re.findall(r"(http\S+)/ \(user (\S+), password (\S+)\)", line)[0]
        driver = browser()
        try:
            ends = time.monotonic() + WARM
            while time.monotonic() < ends:
                demo.stdout.readline()
            driver.get(url)
            log_in(driver, user, password)
            if len(sys.argv) > 1:
                every(driver, url, Path(sys.argv[1]))
            else:
                first(driver, url)
        finally:
            driver.quit()
            demo.terminate()
            demo.communicate()


if __name__ == "__main__":
    main()
