// The circuits as a tree in the order it is shown: parents before their children, the fullest child first.

import { isNumber } from "./format.js";

export function shareOf(circuit) {
  return isNumber(circuit.watts) && circuit.limit_watts > 0 ? circuit.watts / circuit.limit_watts : null;
}

/** Rows {circuit, depth, children, open} of what is not folded away; `folded` says it of a name. */
export function treeRows(circuits, folded, matches) {
  const byParent = new Map();
  const names = new Set(circuits.map((circuit) => circuit.name));
  for (const circuit of circuits) {
    const parent = names.has(circuit.parent) ? circuit.parent : null;
    if (!byParent.has(parent)) byParent.set(parent, []);
    byParent.get(parent).push(circuit);
  }
  const rows = [];
  const walk = (parent, depth) => {
    for (const circuit of ordered(byParent.get(parent) ?? [])) {
      const children = byParent.get(circuit.name)?.length ?? 0;
      const open = children > 0 && (matches !== null || !folded(circuit.name, depth, children));
      if (matches === null || matches(circuit)) rows.push({ circuit, depth: matches === null ? depth : 0,
        children, open });
      if (open) walk(circuit.name, depth + 1);
    }
  };
  walk(null, 0);
  return rows;
}

/** What nobody measures first, then by tenths of the limit, so that rows do not change places each second. */
function ordered(circuits) {
  const rank = (circuit) => {
    const share = shareOf(circuit);
    return share === null ? 99 : share >= 0.7 ? Math.floor(share * 10) : 0;
  };
  return circuits.toSorted((one, other) => rank(other) - rank(one) || byName(one.name, other.name));
}

const collator = new Intl.Collator(undefined, { numeric: true });
function byName(one, other) {
  return collator.compare(one, other);
}
