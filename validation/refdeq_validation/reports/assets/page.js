"use strict";
(() => {
  const form = document.getElementById("filter");
  const items = [...document.querySelectorAll("article.failure, #case-table tbody tr")];
  const none = document.getElementById("no-failures");

  function matches(item, wanted) {
    for (const key of ["disposition", "backend", "level", "family"])
      if (wanted[key] && item.dataset[key] !== wanted[key]) return false;
    if (wanted.bugs && !(item.dataset.bugs || "").split(" ").includes(wanted.bugs)) return false;
    return !wanted.text || item.textContent.toLowerCase().includes(wanted.text.toLowerCase());
  }

  function apply() {
    const wanted = Object.fromEntries(new FormData(form));
    let rows = 0, shown = 0, cards = 0;
    for (const item of items) {
      item.hidden = !matches(item, wanted);
      if (item.tagName === "TR") { rows += 1; shown += !item.hidden; } else cards += !item.hidden;
    }
    if (none) none.hidden = cards > 0;
    form.querySelector("output").textContent = `${cards} failures, ${shown} of ${rows} cases shown`;
  }

  function show(target) {
    // a link to a case that the filter hides must still arrive
    if (target && target.hidden) { form.reset(); apply(); }
    if (target) { target.scrollIntoView(); target.classList.add("target"); }
  }

  if (form) {
    form.hidden = false;
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(apply));
    for (const link of document.querySelectorAll("a.cell"))
      link.addEventListener("click", () => {
        form.reset();
        for (const key of ["backend", "level", "family"]) form.elements[key].value = link.dataset[key];
        apply();
      });
    apply();
  }
  const arrive = () => show(document.getElementById(decodeURIComponent(location.hash.slice(1))));
  window.addEventListener("hashchange", arrive);
  if (location.hash) arrive();
  if (navigator.clipboard)
    for (const button of document.querySelectorAll("button.copy")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.previousElementSibling.textContent);
        button.textContent = "copied";
      });
    }
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
})();
