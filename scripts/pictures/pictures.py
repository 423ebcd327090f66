#!/usr/bin/env python3
"""Makes the pictures of README.md and docs from a study: docs/front.svg, a figure of `peftsearch report --figures`;
docs/watch.svg, a recording of `peftsearch watch` in tmux with the cursor going along the front; and docs/page.png, what
Chromium shows of `peftsearch report --out`.

    pictures.py bin/peftsearch STUDIES.db STUDY docs

Needs tmux and Chromium, and of Python the standard library.
"""
import html
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

COLUMNS, ROWS = 110, 30
CELL_WIDTH, CELL_HEIGHT = 8.4, 17
PAPER, INK, FAINT = "#16181d", "#d8dbe2", "#80858f"
SECONDS = 1.6  # of each frame


def capture(binary, db, study, steps):
    """What the terminal shows while the cursor goes to the left, with its colours."""
    with tempfile.TemporaryDirectory() as directory:
        def tmux(*arguments):
            return subprocess.run(["tmux", "-u", "-f", "/dev/null", "-S", f"{directory}/socket", *arguments], check=True,
                                  capture_output=True, text=True).stdout

        tmux("new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), binary, "watch", study, "--db", db)
        try:
            for _ in range(100):
                if "on the front" in tmux("capture-pane", "-p"):
                    break
                time.sleep(0.1)
            frames = [tmux("capture-pane", "-e", "-p")]
            for _ in range(steps):
                tmux("send-keys", "Left")
                time.sleep(0.5)
                frames.append(tmux("capture-pane", "-e", "-p"))
        finally:
            tmux("kill-server")
        return frames


def spans(line):
    """The parts of a line with one colour each: (column, text, colour, bold)."""
    column, colour, bold = 0, INK, False
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if not part.startswith("\x1b"):
            if part.strip():
                yield column, part, colour, bold
            column += len(part)
            continue
        codes = [int(c or 0) for c in part[2:-1].split(";")]
        while codes:
            code = codes.pop(0)
            if code == 0:
                colour, bold = INK, False
            elif code == 1:
                bold = True
            elif code == 2:
                colour = FAINT
            elif code == 39:
                colour = INK
            elif code == 38 and codes[:1] == [5]:  # xterm's cube of 6 × 6 × 6 colours, and greys
                n, codes = codes[1], codes[2:]
                cube = [0, 95, 135, 175, 215, 255]
                red, green, blue = [cube[(n - 16) // d % 6] for d in (36, 6, 1)] if n < 232 else [8 + 10 * (n - 232)] * 3
                colour = f"#{red:02x}{green:02x}{blue:02x}"


def recording(frames):
    """An SVG that shows the frames in turn, for ever."""
    width, height, n = COLUMNS * CELL_WIDTH + 24, ROWS * CELL_HEIGHT + 24, len(frames)
    style = f"text{{font:14px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;white-space:pre}}" \
            f".f{{visibility:hidden;animation:f {n * SECONDS}s step-end infinite}}" \
            f"@keyframes f{{0%{{visibility:visible}}{100 / n:.4f}%{{visibility:hidden}}}}"
    style += "".join(f".f{i}{{animation-delay:{i * SECONDS - n * SECONDS * (i > 0):.2f}s}}" for i in range(n))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" role="img">',
           f"<title>peftsearch watch</title><style>{style}</style><rect width='100%' height='100%' rx='8' fill='{PAPER}'/>"]
    for i, frame in enumerate(frames):
        out.append(f'<g class="f f{i}">')
        for row, line in enumerate(frame.split("\n")):
            for column, text, colour, bold in spans(line):
                weight = ' font-weight="700"' if bold else ""
                out.append(f'<text x="{12 + column * CELL_WIDTH:.1f}" y="{12 + (row + 0.8) * CELL_HEIGHT:.1f}" fill="{colour}"{weight} '
                           f'textLength="{len(text) * CELL_WIDTH:.1f}" lengthAdjust="spacingAndGlyphs">{html.escape(text)}</text>')
        out.append("</g>")
    return "\n".join(out + ["</svg>\n"])


def main():
    binary, db, study, docs = sys.argv[1:]
    binary, db, docs = str(pathlib.Path(binary).resolve()), str(pathlib.Path(db).resolve()), pathlib.Path(docs).resolve()
    (docs / "watch.svg").write_text(recording(capture(binary, db, study, 4)))
    with tempfile.TemporaryDirectory() as directory:
        page = f"{directory}/report.html"
        subprocess.run([binary, "report", study, "--db", db, "--out", page, "--figures", directory], check=True,
                       stdout=subprocess.DEVNULL)
        shutil.copy(f"{directory}/front.svg", docs / "front.svg")
        subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,1400",
                        "--virtual-time-budget=3000", f"--screenshot={docs / 'page.png'}", f"file://{page}"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


main()
