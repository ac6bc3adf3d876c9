// Dialogs. One that does something says what will happen, starts on Cancel, and needs a reason, a tick and a
// press of its own button: no key alone does anything.

import { make, setText } from "./elements.js";

/** Show something to read; the dialog is gone when it is closed. */
export function showDialog(title, ...content) {
  const close = make("button", { type: "button", autofocus: true }, "Close");
  const dialog = open(title, content, close);
  close.addEventListener("click", () => dialog.close());
  return dialog;
}

/**
 * Ask before a deed. `says` are the sentences of what will happen, asked for again whenever a field changes;
 * `fields` elements to fill in; `act(reason)` does it and returns a sentence for the page, or throws.
 */
export function askFirst({ title, says, fields = [], deed, act, done }) {
  const list = make("ul", { class: "says" });
  const problems = make("ul", { class: "problems", role: "alert" });
  problems.hidden = true;
  const reason = make("textarea", { rows: 2, maxlength: 500, required: true, name: "reason" });
  const tick = make("input", { type: "checkbox", name: "sure" });
  const cancel = make("button", { type: "button", autofocus: true }, "Cancel");
  const go = make("button", { type: "button", class: "deed" }, deed);
  const dialog = open(title, [
    ...fields,
    make("h3", {}, "What will happen"),
    list,
    make("label", {}, make("span", {}, "Reason (users and the ledger will have it)"), reason),
    make("label", { class: "tick" }, tick, "I have read this and want it now"),
    problems,
  ], cancel, go);
  const tell = (sentences) => {
    problems.replaceChildren(...sentences.map((sentence) => make("li", {}, sentence)));
    problems.hidden = sentences.length === 0;
  };
  let busy = false;
  const look = () => {
    list.replaceChildren(...says().map((sentence) => make("li", {}, sentence)));
    go.disabled = busy || !tick.checked || reason.value.trim() === "";
  };
  dialog.addEventListener("input", look);
  dialog.addEventListener("change", look);
  // Enter in a field does nothing; on a button it is that button's.
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.tagName === "INPUT") event.preventDefault();
  });
  cancel.addEventListener("click", () => dialog.close());
  go.addEventListener("click", async () => {
    busy = true;
    look();
    tell([]);
    try {
      const sentence = await act(reason.value.trim());
      dialog.close();
      done(sentence);
    } catch (error) {
      tell(error.problems?.length ? error.problems : [error.message]);
    } finally {
      busy = false;
      look();
    }
  });
  look();
  return dialog;
}

export function field(text, input) {
  return make("label", {}, make("span", {}, text), input);
}

function open(title, content, ...buttons) {
  const heading = make("h2", { id: "dialog-title" }, title);
  const dialog = make("dialog", { "aria-labelledby": "dialog-title" }, heading, ...content,
    make("div", { class: "end" }, ...buttons));
  const back = document.activeElement;
  document.body.append(dialog);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (back?.isConnected) back.focus();
  });
  dialog.showModal();
  return dialog;
}

/** A sentence at the foot of the bar, told to screen readers as well. */
export function tellPage(sentence) {
  setText(document.getElementById("told"), sentence);
}
