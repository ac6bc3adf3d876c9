"""The report's style sheet: light and dark by the reader's own setting, and plain on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6472; --line: #dde1e7; --page: #f6f7f9;
  --card: #ffffff; --good: #1d7f52; --bad: #c22f2f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #303846;
  --page: #12161d; --card: #1a2029; --good: #4cc48d; --bad: #f07070; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
h1 { font-size: 1.7rem; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.05rem; margin: 0 0 0.6rem; }
.when, .foot, small { color: var(--soft); }
.when { margin: 0.1rem 0 1.2rem; }
.foot { font-size: 0.85rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1rem 1.2rem; margin: 1rem 0; }
figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; color: var(--ink); }
.verdict { list-style: none; display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr));
  gap: 0.75rem; padding: 0; margin: 0 0 0.75rem; }
.verdict li { background: var(--card); border: 1px solid var(--line); border-left: 5px solid var(--mark);
  border-radius: 8px; padding: 0.6rem 0.9rem; }
.verdict .good { --mark: var(--good); }
.verdict .bad { --mark: var(--bad); }
.verdict strong { color: var(--mark); display: block; }
.verdict .good strong::before { content: "✓ "; }
.verdict .bad strong::before { content: "✗ "; }
.verdict span { font-size: 0.88rem; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 0.75rem;
  margin: 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 0.6rem 0.9rem; }
.tiles dt { font-size: 0.82rem; color: var(--soft); }
.tiles dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles small { display: block; font-size: 0.82rem; font-weight: 400; min-height: 1.2em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 500; vertical-align: bottom; }
th, td { padding: 0.32rem 0.7rem 0.32rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:first-child { white-space: nowrap; }
tbody tr:last-child td { border-bottom: 0; }
.n { text-align: right; white-space: nowrap; }
.proof { overflow-wrap: anywhere; font-size: 0.85rem; padding-left: 1.1rem; margin: 0; }
td { overflow-wrap: break-word; }
.long { overflow-wrap: anywhere; }
/* Paper: of the printer's own size. Whatever has a page to itself stays whole, long tables go on with their
   headings, and nothing scrolls. Columns of text break between words, of digits never. */
@page { margin: 14mm 12mm 16mm;
  @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif; color: #444; } }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --page: #fff;
    --card: #fff; --good: #14603c; --bad: #9c1f1f; }
  html { font-size: 11px; }
  body { background: none; font-size: 1rem; line-height: 1.4; print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  section { border-width: 1px 0 0; border-radius: 0; padding: 0.7rem 0 0; }
  h2, h3 { break-after: avoid; }
  figure, .verdict li, .tiles div, tr, li, p { break-inside: avoid; }
  section:not(:has(h3, tbody tr:nth-child(12))), table:not(:has(tbody tr:nth-child(12))) {
    break-inside: avoid; }
  .note, figcaption { break-before: avoid; }
  .foot { break-inside: avoid; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(112px, 1fr)); }
  .tiles dd { font-size: 1.2rem; }
  .wide { overflow: visible; }
  thead { display: table-header-group; }
  table { font-size: 0.8rem; }
  th, td { padding-right: 0.45rem; }
  th.n, td:first-child { white-space: normal; }
  td.n { white-space: nowrap; }
  td.n + td:not(.n), th.n + th:not(.n) { padding-left: 0.4rem; } }
"""
