// The colours, before anything is painted: what the viewer chose here, else what the system prefers.
// A classic script, so that the page does not flash in the wrong colours. The choice is kept in localStorage.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const read = () => {
    try {
      return localStorage.getItem("tombola.theme") || "auto";
    } catch {
      return "auto";
    }
  };
  let chosen = read();
  const apply = () => {
    const isDark = chosen === "dark" || (chosen === "auto" && system.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
  };
  window.tombolaTheme = {
    get: () => chosen,
    set(wanted) {
      chosen = wanted;
      try {
        localStorage.setItem("tombola.theme", wanted);
      } catch {
        /* it holds until the page is left */
      }
      apply();
    },
  };
  system.addEventListener("change", apply);
  apply();
})();
