// Elements made and changed by text and attributes alone: nothing that the server says is read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** A new element; children are elements or text, null ones are left out. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set an attribute if it differs; null and false take it away. What could run code is refused. */
export function setAttribute(element, name, value) {
  if (/^(on|style$|src|href|action)/i.test(name)) throw new Error(`attribute ${name} is not set from data`);
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Change a text only if it differs, so that selection and screen readers are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** One of the symbols of index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/**
 * Bring a container's children in line with a list: one child for each item, kept by key, so that focus and
 * open details stay where they are. `create` makes a child, `update` fills it.
 */
export function keep(container, items, key, create, update) {
  const old = new Map();
  for (const child of container.children) old.set(child.dataset.key, child);
  let place = container.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let child = old.get(name);
    if (child) {
      old.delete(name);
    } else {
      child = create(item);
      child.dataset.key = name;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else container.insertBefore(child, place);
  }
  for (const child of old.values()) child.remove();
}

/** A bar that is filled to a share; `level` names how close: room, near, tight, above, unknown. */
export function gauge(extra = "") {
  return make("div", { class: `gauge ${extra}`, "aria-hidden": "true" }, make("span"));
}

export function setGauge(element, ratio, level, extra = "") {
  setAttribute(element, "class", `gauge ${extra} level-${level}`);
  const share = ratio === null ? 0 : Math.max(0, Math.min(1, ratio));
  element.firstElementChild.style.setProperty("--share", `${(share * 100).toFixed(1)}%`);
}

/** A list of names and values; `rows` are [name, value] with text or elements as values. */
export function facts(list, rows) {
  keep(
    list,
    rows.filter((row) => row[1] !== null && row[1] !== undefined),
    (row) => row[0],
    () => make("div", { class: "fact-row" }),
    (child, [name, value]) => {
      if (!child.firstElementChild) child.append(make("dt", {}, name), make("dd"));
      setText(child.lastElementChild, value);
    },
  );
}
