"""The viewer in a real browser: drag, wheel, keys, fingers, opacity, next and previous."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

from daemon.cli import main
from tests.daemon.web.test_web import Server, _served, _stopped
from tests.support.browser import needs_browser
from tests.support.devtools import Tab, browser
from tests.support.dicom_series import write_series
from tests.support.models import own_model
from trainer.images.phantom import phantom

pytestmark = [pytest.mark.slow, needs_browser, pytest.mark.timeout(900)]
SLICES = 12
_SHOWN = "document.querySelector('#viewer').dataset"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[Server]:
    """Three heads with two answers each, a volume, and a series of four files."""
    folder = tmp_path_factory.mktemp("looking")
    inbox = folder / "inbox"
    (inbox / "series").mkdir(parents=True)
    for number in range(3):
        phantom(number, lesion=number == 1).save(inbox / f"head-{number}.png")
    watch = ["watch", str(inbox), "--once", "--settle", "0s", "--db", str(folder / "x.db"), "-q",
             "--cache", str(engine_cache)]  # fmt: skip
    assert main(watch) == 0
    own = own_model(folder / "own.safetensors")
    assert main([*watch, "--weights", str(own), "--precision", "fp32", "--reclassify"]) == 0
    head = np.stack([np.asarray(phantom(7, lesion=True).convert("L")).T.astype(np.int16) * 9] * SLICES, 2)
    nibabel.save(nibabel.Nifti1Image(head, np.diag([1.0, 1.0, 4.0, 1.0])), inbox / "volume.nii.gz")
    write_series(inbox / "series", 1, 4)
    assert main(watch) == 0
    server = _served(folder / "x.db", engine_cache)
    yield server
    assert _stopped(server) == 0


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser() as tab:
        yield tab


def _open(tab: Tab, server: Server, name: str, words: str = "") -> tuple[int, float, float]:
    """Open an image's page as a person at a desk; return its id and the middle of its picture."""
    found = server.ask(f"/api/results?q={name}").json()["results"]
    assert isinstance(found, list)
    number = int(found[0]["id"])
    tab.device(1280, 1000)
    tab.open(f"{server.address.rstrip('/')}/image/{number}{words}")
    tab.wait(f"{_SHOWN}.heat")
    return (number, *_middle(tab))


def _middle(tab: Tab) -> tuple[float, float]:
    tab.run("document.querySelector('#viewer canvas').scrollIntoView({block: 'center'})")
    box = tab.run("(b => [b.x + b.width / 2, b.y + b.height / 2])"
                  "(document.querySelector('#viewer canvas').getBoundingClientRect())")  # fmt: skip
    return float(box[0]), float(box[1])


def _window(tab: Tab) -> tuple[float, float]:
    tab.run("new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    return float(tab.run(f"{_SHOWN}.low")), float(tab.run(f"{_SHOWN}.high"))


def _pixels(tab: Tab) -> list[int]:
    """Return the colours along the middle row of the first canvas."""
    tab.run("new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    found: list[int] = tab.run(
        "(c => [...c.getContext('2d').getImageData(0, c.height >> 1, c.width, 1).data])"
        "(document.querySelector('#viewer canvas'))"
    )
    return found


def test_window_follows_the_mouse_and_goes_back(tab: Tab, server: Server) -> None:
    _, x, y = _open(tab, server, "volume")
    low, high = _window(tab)
    before = _pixels(tab)

    tab.drag((x, y), (x + 150, y))
    wider = _window(tab)
    assert wider[1] - wider[0] > 1.2 * (high - low)

    tab.drag((x, y), (x, y - 100))
    brighter = _window(tab)
    assert sum(brighter) < sum(wider)
    assert _pixels(tab) != before

    tab.press("i")
    tab.wait("document.querySelector('[data-do=invert]').getAttribute('aria-pressed') === 'true'")
    tab.press("r")
    assert _window(tab) == (low, high)
    assert _pixels(tab) == before
    assert tab.console == []


def test_wheel_arrows_and_slider_turn_the_slices_of_a_volume(tab: Tab, server: Server) -> None:
    number, x, y = _open(tab, server, "volume")
    at = int(tab.run(f"{_SHOWN}.shown").split("/")[1])
    step = -1 if at > SLICES // 2 else 1

    tab.wheel(x, y, 100 * step)
    tab.wait(f"{_SHOWN}.shown === '{number}/{at + step}'")
    tab.press("ArrowRight" if step > 0 else "ArrowLeft")
    tab.wait(f"{_SHOWN}.shown === '{number}/{at + 2 * step}'")
    tab.wait(f"{_SHOWN}.heat === '{number}/{at + 2 * step}'")

    assert "this slice alone" in tab.run("document.querySelector('#viewer figcaption').textContent")
    assert f"slice {at + 2 * step + 1} of {SLICES}" in tab.run(
        "document.querySelector('#viewer').textContent"
    )


def test_wheel_with_control_zooms_about_the_pointer(tab: Tab, server: Server) -> None:
    _, x, y = _open(tab, server, "volume")
    shown = tab.run(f"{_SHOWN}.shown")

    tab.wheel(x + 60, y, -100, control=True)
    tab.wheel(x + 60, y, -100, control=True)
    tab.wait(f"Number({_SHOWN}.zoom) > 1.5")
    tab.drag((x, y), (x + 40, y), button="right")
    assert tab.run(f"{_SHOWN}.shown") == shown

    tab.press("0")
    tab.wait(f"{_SHOWN}.zoom === '1'")
    tab.press("+")
    tab.wait(f"{_SHOWN}.zoom === '1.25'")
    tab.click(x, y, count=2)
    tab.wait(f"{_SHOWN}.zoom === '1'")


def test_value_under_the_pointer_is_the_file_s(tab: Tab, server: Server) -> None:
    _, x, y = _open(tab, server, "volume")

    tab.move(x + 3, y)

    words = tab.wait("document.querySelector('[data-part=value]').textContent")
    expected = np.asarray(phantom(7, lesion=True).convert("L")).astype(int) * 9
    value = int(words.split(": ")[1].replace(",", ""))
    assert value in expected
    assert words.startswith("x ")


def test_opacity_hides_and_shows_the_heatmap(tab: Tab, server: Server) -> None:
    _open(tab, server, "head-1")
    coloured = _pixels(tab)

    tab.press("h")
    plain = _pixels(tab)
    assert all(plain[place] == plain[place + 1] == plain[place + 2] for place in range(0, len(plain), 4))
    assert coloured != plain

    tab.press("h")
    assert _pixels(tab) == coloured


def test_files_of_a_series_are_slices_too_and_the_chart_leads_to_them(tab: Tab, server: Server) -> None:
    _open(tab, server, "series/")
    shown = tab.run(f"{_SHOWN}.shown")

    tab.run("document.querySelector('.of-slices a:not(.is-here)').dispatchEvent("
            "new MouseEvent('click', {bubbles: true, cancelable: true}))")  # fmt: skip
    tab.wait(f"{_SHOWN}.shown !== '{shown}'")

    assert tab.run("document.querySelectorAll('.of-slices a.is-here').length") == 1
    assert "Open " in tab.run("document.querySelector('[data-part=other]').textContent")


def test_two_models_stand_beside_each_other_and_move_together(tab: Tab, server: Server) -> None:
    _open(tab, server, "head-1")

    assert tab.run("document.querySelectorAll('#viewer canvas').length") == 2
    tab.press("i")
    tab.run("new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    corners = tab.run("[...document.querySelectorAll('#viewer canvas')].map(c => "
                      "[...c.getContext('2d').getImageData(c.width >> 1, 12, 1, 1).data])")  # fmt: skip
    assert corners[0] == corners[1]


def test_keys_lead_through_the_filtered_list(tab: Tab, server: Server) -> None:
    number, *_ = _open(tab, server, "head-1", "?q=head&sort=file")

    tab.press("n")
    tab.wait(f"location.pathname !== '/image/{number}' && document.readyState === 'complete'")
    tab.wait(f"{_SHOWN}.shown")
    assert "head-2" in tab.run("document.title")
    assert tab.run("location.search") == "?q=head&sort=file"

    tab.press("k")
    tab.wait(f"location.pathname === '/image/{number}'")
    assert server.ask(f"/image/{number}/next?q=head&sort=file&order=reverse").status == 303
    assert server.ask(f"/image/{number}/next?q=head-1").status == 404


def test_two_fingers_zoom_and_one_sets_the_window(tab: Tab, server: Server) -> None:
    _open(tab, server, "head-1")
    tab.device(390, 800, touch=True)
    x, y = _middle(tab)
    _, high = _window(tab)

    tab.fingers([(x, y)], [(x + 30, y)], [(x + 60, y)])
    assert _window(tab)[1] > high

    tab.fingers([(x - 30, y), (x + 30, y)], [(x - 60, y), (x + 60, y)], [(x - 90, y), (x + 90, y)])
    tab.wait(f"Number({_SHOWN}.zoom) > 2")
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")


def test_file_that_is_gone_says_so(tab: Tab, server: Server) -> None:
    server_inbox = Path(server.ask("/api/image/1").json()["inbox"])  # type: ignore[arg-type]
    found = server.ask("/api/results?q=head-0").json()["results"]
    assert isinstance(found, list)
    (server_inbox / found[0]["path"]).unlink()

    tab.open(f"{server.address.rstrip('/')}/image/{found[0]['id']}")

    tab.wait("document.querySelector('[data-part=message]').textContent === 'No picture: the file is gone'")


def test_without_scripts_the_pictures_are_there(server: Server) -> None:
    found = server.ask("/api/results?q=head-1").json()["results"]
    assert isinstance(found, list)
    with browser() as tab:
        tab.without_scripts()
        tab.open(f"{server.address.rstrip('/')}/image/{found[0]['id']}")

        tab.wait(
            "[...document.images].length === 4 && [...document.images].every(i => i.naturalWidth === 512)"
        )
