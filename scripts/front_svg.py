#!/usr/bin/env python3
"""Draw a front for the README: peftsearch show STUDY --json | front_svg.py > front.svg

Grey dots are trials, the line is the front; the horizontal axis is logarithmic, and a plan without
parameters (head only) stands at its left end.
"""
import json
import math
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 380, 64, 24, 36, 48


def main():
    study = json.load(sys.stdin)
    trials = [(t["params"], t["result"]["score"]) for t in study["trials"] if t["state"] == "complete"]
    front, best = [], -math.inf
    for params, score in sorted(trials, key=lambda t: (t[0], -t[1])):
        if score > best:
            front.append((params, score))
            best = score
    low, high = study["reference"]["min_params"], max(p for p, _ in trials) * 1.3
    floor = min(s for _, s in trials) - 0.03
    ceiling = max(s for _, s in trials) + 0.05

    def x(params):
        share = math.log(max(params, low) / low) / math.log(high / low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(score):
        return HEIGHT - BOTTOM - (score - floor) / (ceiling - floor) * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    for power in range(2, 9):
        for params in (10**power,):
            if low <= params <= high:
                name = f"{params // 1000}k" if params < 10**6 else f"{params // 10**6}M"
                out.append(f'<path d="M{x(params):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>'
                           f'<text x="{x(params):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#555">{name}</text>')
    tenth = math.ceil(floor * 10)
    while tenth / 10 < ceiling:
        out.append(f'<path d="M{LEFT} {y(tenth / 10):.1f}H{WIDTH - RIGHT}" stroke="#eee"/>'
                   f'<text x="{LEFT - 8}" y="{y(tenth / 10) + 4:.1f}" text-anchor="end" fill="#555">{tenth / 10:.1f}</text>')
        tenth += 1
    path = f"M{x(front[0][0]):.1f} {y(front[0][1]):.1f}"
    for params, score in front[1:]:
        path += f"H{x(params):.1f}V{y(score):.1f}"
    out.append(f'<path d="{path}H{WIDTH - RIGHT}" fill="none" stroke="#0072b2" stroke-width="2"/>')
    members = set(front)
    for trial in trials:
        color = "#0072b2" if trial in members else "#bbb"
        out.append(f'<circle cx="{x(trial[0]):.1f}" cy="{y(trial[1]):.1f}" r="4.5" fill="{color}"/>')
    out.append(f'<text x="{LEFT}" y="20" fill="#222">{study["study"]}: dev {study["metric"]} by trainable parameters '
               f'({len(trials)} trials, hypervolume {study["hypervolume"]:.3f})</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle" fill="#555">trainable parameters, without the head</text></svg>')
    print("\n".join(out))


if __name__ == "__main__":
    main()
