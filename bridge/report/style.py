"""The page's style sheet: system fonts, two palettes, one column that narrows to a phone's width.

Meaning never rests on colour alone: what was taken out is struck through, what was put in is
underlined, tags and statuses carry a sign and a word.
"""

from __future__ import annotations

__all__ = ["CSS"]

PALETTES = """
:root {
  color-scheme: light;
  --paper: #f6f6f4; --card: #ffffff; --sunk: #f3f4f5; --ink: #1a1e23; --soft: #59626c;
  --line: #dcdfe3; --grid: #e9ebee; --accent: #1257b8; --bar: #8fb2e3;
  --good: #0f6330; --good-bg: #dff4e5; --bad: #a3161f; --bad-bg: #fde7e6;
  --warn: #7a4a00; --warn-bg: #fdf1d8; --level: #4a5560; --level-bg: #eceef0;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;
    --paper: #101418; --card: #181d23; --sunk: #12171c; --ink: #e7eaee; --soft: #9ca7b3;
    --line: #2d353e; --grid: #252c34; --accent: #7fb3ff; --bar: #3f6aa6;
    --good: #83dfa2; --good-bg: #15321f; --bad: #ffa39c; --bad-bg: #401a1c;
    --warn: #f2c46d; --warn-bg: #392a0d; --level: #b4bec9; --level-bg: #262d35;
  }
}
"""

FRAME = """
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0; padding: clamp(1.25rem, 4vw, 3.5rem) clamp(1rem, 4vw, 2.5rem) 4rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue",
    "Noto Sans", "Liberation Sans", Arial, sans-serif;
}
header, main, footer { max-width: 66rem; margin-inline: auto; }
h1, h2, h3, h4, h5, p, ul, ol, dl, dd, figure { margin: 0; padding: 0; }
h1 {
  font-size: clamp(1.5rem, 3.6vw, 2.25rem); line-height: 1.15; letter-spacing: -0.02em;
  font-weight: 680; overflow-wrap: anywhere;
}
h2 { font-size: 1.3rem; line-height: 1.25; letter-spacing: -0.01em; font-weight: 650; }
h3 { font-size: 1.05rem; line-height: 1.3; font-weight: 650; overflow-wrap: anywhere; }
h4 { font-size: 0.95rem; font-weight: 650; margin-block: 1.4rem 0.6rem; }
h5, .label, dt, thead th, .eyebrow {
  font-size: 0.8rem; line-height: 1.35; font-weight: 550; color: var(--soft);
}
h5 { margin-bottom: 0.35rem; }
ul, ol { list-style: none; }
a { color: var(--accent); text-underline-offset: 0.18em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; border-radius: 3px; }
.code, .prompt {
  font-family: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono",
    "Liberation Mono", monospace;
}
.code { font-size: 0.92em; }
h3.code { font-size: 1.05rem; }
.soft, .note, footer { color: var(--soft); }
.note { font-size: 0.875rem; margin-top: 0.75rem; }
.hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--card); padding: 0.5rem 0.75rem; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: clamp(1rem, 2.5vw, 1.5rem);
}
main > section { margin-top: 2.75rem; }
main > section > h2 { margin-bottom: 0.9rem; }
main > section > .card + .card { margin-top: 1rem; }
footer { margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line);
  font-size: 0.875rem; }
"""

HEAD = """
.eyebrow { display: flex; flex-wrap: wrap; align-items: center; gap: 0.35rem 0.75rem;
  margin-bottom: 0.6rem; overflow-wrap: anywhere; }
.lead { font-size: 1.15rem; line-height: 1.5; color: var(--soft); margin-top: 0.6rem;
  max-width: 46rem; overflow-wrap: anywhere; }
.status, .tag {
  display: inline-block; padding: 0.1rem 0.5rem; border-radius: 1rem; white-space: nowrap;
  font-size: 0.78rem; line-height: 1.45; font-weight: 600;
  background: var(--level-bg); color: var(--level);
}
.status { text-transform: capitalize; }
.completed, .tag.fixed, .tag.better { background: var(--good-bg); color: var(--good); }
.failed, .cancelled, .tag.broken, .tag.worse { background: var(--bad-bg); color: var(--bad); }
.stopped { background: var(--warn-bg); color: var(--warn); }
main > section.result {
  margin-top: 1.75rem; display: flex; flex-wrap: wrap; justify-content: space-between;
  align-items: end; gap: 1.5rem 3rem;
}
.scores { display: flex; flex-wrap: wrap; align-items: flex-end; gap: 0.25rem 1rem; }
.scores .label { display: block; }
.big, .arrow { font-size: clamp(2.4rem, 7vw, 3.4rem); line-height: 1.1; letter-spacing: -0.03em;
  font-variant-numeric: tabular-nums; }
.was .big, .arrow { color: var(--soft); font-weight: 400; }
.now .big { font-weight: 700; }
.gain { align-self: flex-end; margin-bottom: 0.45rem; padding: 0.1rem 0.6rem; border-radius: 1rem;
  font-weight: 650; font-variant-numeric: tabular-nums; background: var(--level-bg);
  color: var(--level); }
.gain.up { background: var(--good-bg); color: var(--good); }
.gain.down { background: var(--bad-bg); color: var(--bad); }
.stats { display: flex; flex-wrap: wrap; gap: 0.9rem 2.1rem; margin-bottom: 0.35rem; }
.stats dd { font-size: 1.15rem; line-height: 1.3; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.stats dd.words { font-size: 1rem; line-height: 1.5rem; font-weight: 450; }
.callout { padding: 1rem 1.25rem; border-radius: 10px; overflow-wrap: anywhere; }
main > section.callout { margin-top: 1rem; }
main > section.callout > h2 { font-size: 1rem; margin-bottom: 0.3rem; }
.callout.bad { background: var(--bad-bg); }
.callout.warn { background: var(--warn-bg); }
.callout.bad h2 { color: var(--bad); }
.callout.warn h2 { color: var(--warn); }
.callout ul { list-style: disc; padding-inline-start: 1.2rem; }
.callout .fields { margin-top: 0.6rem; }
.callout .note, .callout summary { color: inherit; }
nav { margin-top: 1.5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.4rem 1.4rem; font-size: 0.95rem; }
"""

CHARTS = """
figcaption { display: flex; flex-wrap: wrap; gap: 0.2rem 0.9rem; align-items: baseline;
  font-size: 0.875rem; color: var(--soft); margin-bottom: 0.75rem; }
figcaption strong { color: var(--ink); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.4rem; }
.legend li { display: flex; align-items: center; gap: 0.5rem; }
.key { width: 1.6rem; height: 0; border-top: 2.5px solid var(--accent); position: relative; }
.key.score { border-top: 1px solid var(--soft); }
.key.score::after { content: ""; position: absolute; left: 50%; top: -0.5px; width: 7px;
  height: 7px; border-radius: 50%; background: var(--soft); transform: translate(-50%, -50%); }
.key.partial { border: 1.5px solid var(--soft); width: 8px; height: 8px; border-radius: 50%; }
.key.baseline { border-top: 1.5px dashed var(--soft); }
.chart { display: block; width: 100%; height: auto; }
.chart.narrow { display: none; }
.chart text { font: 12.5px ui-sans-serif, system-ui, "Segoe UI", Roboto, "Liberation Sans",
  sans-serif; fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart text.value { font-weight: 700; font-size: 14px; fill: var(--ink); paint-order: stroke;
  stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.chart line { stroke-width: 1; }
.chart .grid { stroke: var(--grid); }
.chart .floor { stroke: var(--line); }
.chart .baseline { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 4; }
.chart path { fill: none; stroke-linejoin: round; }
.chart .score { stroke: var(--soft); stroke-width: 1; stroke-opacity: 0.6; }
.chart .best { stroke: var(--accent); stroke-width: 2.5; }
.chart .dot { fill: var(--soft); }
.chart .dot.partial { fill: var(--card); stroke: var(--soft); stroke-width: 1.5; }
.chart .summit { fill: var(--card); stroke: var(--accent); stroke-width: 2.5; }
.chart .bar { fill: var(--bar); }
"""

MODULES = """
article.card + article.card { margin-top: 1rem; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.side { min-width: 0; }
.prompt { background: var(--sunk); border: 1px solid var(--line); border-radius: 7px;
  padding: 0.8rem 0.95rem; font-size: 0.85rem; line-height: 1.65; white-space: pre-wrap;
  overflow-wrap: anywhere; }
ins, del { border-radius: 3px; padding: 0.08em 0.12em; box-decoration-break: clone;
  -webkit-box-decoration-break: clone; }
ins { background: var(--good-bg); color: var(--good); text-decoration: underline;
  text-underline-offset: 0.2em; }
del { background: var(--bad-bg); color: var(--bad); text-decoration: line-through; }
.demos { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr));
  gap: 0.85rem; align-items: start; }
.demos > li { border: 1px solid var(--line); border-radius: 7px; padding: 0.85rem 0.95rem;
  background: var(--sunk); min-width: 0; }
.card-head { display: flex; flex-wrap: wrap; align-items: center; gap: 0.3rem 0.5rem;
  margin-bottom: 0.6rem; }
.card-head .label { color: var(--ink); font-weight: 600; margin-inline-end: auto; }
.fields > div + div { margin-top: 0.5rem; }
.fields dt { overflow-wrap: anywhere; }
.prose { white-space: pre-wrap; overflow-wrap: anywhere; }
.demos .prose, .more .prose { font-size: 0.9rem; line-height: 1.5; }
.values { list-style: disc; padding-inline-start: 1.1rem; }
.values li + li { margin-top: 0.2rem; }
.empty { color: var(--soft); font-style: italic; }
summary { cursor: pointer; color: var(--accent); font-size: 0.875rem; }
.more { margin-top: 0.4rem; }
.more > summary + * { margin-top: 0.4rem; }
"""

TABLES = """
table { border-collapse: collapse; width: 100%; }
th, td { text-align: start; vertical-align: top; padding: 0.6rem 0.75rem;
  border-top: 1px solid var(--line); }
thead th { border-top: 0; vertical-align: bottom; }
th:first-child { padding-inline-start: 0; }
td:last-child, thead th:last-child { padding-inline-end: 0; }
.scroll { overflow-x: auto; padding-block: 0.6rem; }
.numbers { font-variant-numeric: tabular-nums; }
.numbers th, .numbers td { text-align: end; white-space: nowrap; }
.numbers tbody th { font-weight: 450; }
.numbers th:first-child { text-align: start; }
details .numbers { width: auto; font-size: 0.875rem; }
details .numbers th, details .numbers td { padding-block: 0.25rem; }
.tally { display: flex; flex-wrap: wrap; gap: 0.4rem 1.25rem; margin-block: 0.75rem 1.25rem; }
.tally li { display: flex; align-items: center; gap: 0.45rem;
  font-variant-numeric: tabular-nums; }
.examples { table-layout: fixed; font-size: 0.925rem; line-height: 1.5; }
.examples th:first-child { width: 7.5rem; }
.examples .expected { width: 15%; }
.examples tbody th { font-weight: 400; }
.examples .number { display: block; color: var(--soft); font-size: 0.8rem; margin-top: 0.25rem; }
.examples + details, #examples > details, .demos + details { margin-top: 1.25rem; }
.demos + details > .demos { margin-top: 0.75rem; }
#examples > details > summary { font-size: 0.95rem; margin-bottom: 0.75rem; }
.mark { font-size: 0.8rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.mark.right { color: var(--good); }
.mark.wrong { color: var(--bad); }
.error { color: var(--bad); }
.facts > div { display: grid; grid-template-columns: minmax(9rem, 15rem) 1fr; gap: 0.15rem 1.5rem;
  padding-block: 0.45rem; border-top: 1px solid var(--grid); align-items: baseline; }
.facts > div:first-child { border-top: 0; padding-top: 0; }
.facts > div:last-child { padding-bottom: 0; }
.facts dt { font-size: 0.9rem; }
.facts dd { min-width: 0; }
"""

NARROW = """
@media screen and (max-width: 46rem) {
  .sides { grid-template-columns: 1fr; }
  .chart.wide { display: none; }
  .chart.narrow { display: block; }
  .facts > div { grid-template-columns: 1fr; }
  .examples, .examples tbody, .examples tr, .examples th, .examples td { display: block; }
  .examples thead { position: absolute; width: 1px; height: 1px; overflow: hidden;
    clip-path: inset(50%); }
  .examples tr { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
    padding: 0.85rem 1rem; }
  .examples tr + tr { margin-top: 0.75rem; }
  .examples tbody th, .examples td { border: 0; padding: 0; width: auto; }
  .examples th:first-child { width: auto; display: flex; align-items: center; gap: 0.6rem; }
  .examples .number { margin: 0; }
  .examples td { margin-top: 0.55rem; }
  .examples td::before { content: attr(data-label); display: block; font-size: 0.8rem;
    font-weight: 550; color: var(--soft); }
}
"""

PRINT = """
@page { margin: 16mm; }
@media print {
  body { padding: 0; font-size: 10pt; background: none; }
  nav, .skip, .screen-only, .examples .more { display: none; }
  .card, .demos > li, .prompt { background: none; }
  .card { box-decoration-break: clone; -webkit-box-decoration-break: clone; }
  .examples th:first-child { width: 6rem; }
  .examples .expected { width: 18%; }
  #examples > details::details-content, .callout details::details-content,
  .demos + details::details-content {
    content-visibility: visible; display: block; height: auto; }
  .demos > li, .side, .callout, .examples tr, figure, .facts > div { break-inside: avoid; }
  h2, h3, h3 + p, h4, thead { break-after: avoid; }
  main > section { margin-top: 1.75rem; }
  .status, .tag, .gain, ins, del { print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
}
"""

CSS = f"{PALETTES}{FRAME}{HEAD}{CHARTS}{MODULES}{TABLES}{NARROW}{PRINT}".strip()
"""The whole sheet."""
