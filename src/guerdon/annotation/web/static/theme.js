// Sets the theme before the page is drawn, and wires the switch: automatic, light, dark.
const root = document.documentElement;
const NAMES = { auto: "Theme: automatic", light: "Theme: light", dark: "Theme: dark" };

function stored() {
  try {
    return localStorage.getItem("guerdon.theme") || "auto";
  } catch {
    return "auto"; // storage is blocked
  }
}

function apply(theme) {
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    button.title = NAMES[theme];
    button.setAttribute("aria-label", NAMES[theme]);
  }
}

apply(stored());
addEventListener("storage", () => apply(stored()));
addEventListener("DOMContentLoaded", () => {
  apply(stored());
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    button.addEventListener("click", () => {
      const themes = Object.keys(NAMES);
      const next = themes[(themes.indexOf(stored()) + 1) % themes.length];
      try {
        localStorage.setItem("guerdon.theme", next);
      } catch {
        // the choice lasts as long as the page
      }
      apply(next);
    });
  }
});
