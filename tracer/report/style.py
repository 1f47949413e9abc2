"""The style sheet of a page: light and dark as the reader's system is, and paper."""

from __future__ import annotations

_LIGHT = """
--ground: #ffffff; --panel: #f5f6f8; --ink: #1d2129; --dim: #5b6472; --line: #d5d9e0;
--ok: #12753b; --degraded: #8a5a00; --failed: #b3261e;
--c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b5508c; --c4: #8f7a00; --c5: #6b7280;
"""
_DARK = """
--ground: #14171c; --panel: #1d2127; --ink: #e6e9ee; --dim: #a3acba; --line: #3a414c;
--ok: #56d288; --degraded: #f0b44c; --failed: #ff8a80;
--c0: #56b4e9; --c1: #ff9c5a; --c2: #2fd0a3; --c3: #e78cc4; --c4: #f0e442; --c5: #9ca3af;
"""

SHEET = (
    f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
"""
    """
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 3rem; max-width: 68rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; overflow-wrap: anywhere; }
.dim { color: var(--dim); }
.ok { color: var(--ok); } .degraded { color: var(--degraded); } .failed { color: var(--failed); }
.verdicts { margin: 1.1rem 0; padding: .7rem 1rem; background: var(--panel); border-left: 5px solid var(--line);
  border-radius: 3px; }
.verdicts.ok { border-color: var(--ok); } .verdicts.degraded { border-color: var(--degraded); }
.verdicts.failed { border-color: var(--failed); }
.verdicts p { font-size: 1.12rem; font-weight: 600; }
.verdicts p.text, .verdicts p.dim { font-weight: 400; color: var(--ink); font-size: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { text-align: left; color: var(--dim); padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); }
tbody th { font-weight: 400; overflow-wrap: anywhere; min-width: 11rem; }
td:last-child { min-width: 9rem; }
thead th { color: var(--dim); font-weight: 600; vertical-align: bottom; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.reasons { list-style: none; padding: 0; margin: 0; }
.reasons li { padding: .6rem 0; border-bottom: 1px solid var(--line); break-inside: avoid; }
.reasons strong { font-variant-numeric: tabular-nums; }
code, pre { font-family: ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: .84rem; }
code { overflow-wrap: anywhere; }
pre { background: var(--panel); padding: .6rem .8rem; overflow-x: auto; line-height: 1.3; margin: .5rem 0 0;
  border-radius: 3px; width: fit-content; max-width: 100%; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(27rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figcaption { font-size: .92rem; color: var(--dim); } figcaption strong { color: var(--ink); display: block; }
article { margin: 0 0 1.6rem; break-inside: avoid; }
svg.plot { display: block; width: 100%; height: auto; font-family: inherit; }
.plot .background { fill: none; }
.plot text { fill: var(--dim); font-size: 11px; stroke: none; }
.key { display: inline-block; margin-right: .9em; color: var(--ink); }
.key::before { content: "■ "; }
.plot .guide.line { stroke: var(--line); stroke-width: 1; fill: none; }
.plot .axis .line { stroke: var(--line); fill: none; } .plot .axis.x .guide.line { stroke: none; }
.plot .axis.y text { text-anchor: end; } .plot .axis.x text { text-anchor: middle; }
.plot .line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.stackedline-graph .line { stroke-width: 1; fill-opacity: .55; }
"""
    + "".join(
        f".key-{at}::before {{ color: var(--c{at}); }} "
        f".plot .color-{at} .line, .plot .color-{at} .dot {{ stroke: var(--c{at}); }} "
        f".plot .color-{at} .dot, .stackedline-graph .color-{at} .line {{ fill: var(--c{at}); }}\n"
        for at in range(6)
    )
    + f"""
@media (max-width: 40rem) {{ .plots {{ grid-template-columns: 1fr; }} }}
@media print {{
  :root {{ color-scheme: light; {_LIGHT} }}
  body {{ max-width: none; padding: 0; font-size: 10.5pt; }}
  h2 {{ break-after: avoid; }} tr, .verdicts {{ break-inside: avoid; }}
  .wide, pre {{ overflow: visible; }} pre {{ white-space: pre-wrap; font-size: 8pt; }}
  .plots {{ grid-template-columns: 1fr 1fr; }}
}}
"""
)
