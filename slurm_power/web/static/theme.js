// Light or dark: as the system says, until the reader says otherwise. Print is always light.

const KEY = "slurm-power-theme";
const WORDS = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };
const NEXT = { "": "dark", dark: "light", light: "" };

/** `onChange` is called when colours have changed: a canvas does not see it by itself. */
export function themeSwitch(button, onChange) {
  const root = document.documentElement;
  let chosen = remembered();
  const show = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    button.textContent = WORDS[chosen];
    onChange();
  };
  button.addEventListener("click", () => {
    chosen = NEXT[chosen];
    remember(chosen);
    show(chosen);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => onChange());
  window.addEventListener("beforeprint", () => show("light"));
  window.addEventListener("afterprint", () => show(chosen));
  show(chosen);
}

function remembered() {
  try {
    const word = localStorage.getItem(KEY) ?? "";
    return word in WORDS ? word : "";
  } catch {
    return ""; // a browser that keeps nothing
  }
}

function remember(word) {
  try {
    localStorage.setItem(KEY, word);
  } catch {
    // the same
  }
}
