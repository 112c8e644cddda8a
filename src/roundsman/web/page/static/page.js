// Loads the page again while it is looked at, and takes over the parts that have changed: those marked with data-part.
// A part in which a person writes, or has opened a form, stays as it is. Without this file, everything works but the refresh.
"use strict";
(() => {
  const main = document.getElementById("main");
  const stale = document.getElementById("stale");
  let timer = 0;

  // The server writes times in UTC; a reader thinks in the time of the browser.
  const formats = {
    day: { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
    date: { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  };
  const localise = (root) => {
    for (const each of root.querySelectorAll("time[data-as]")) {
      const at = new Date(each.dateTime);
      const form = new Date().toDateString() === at.toDateString() ? formats.day : formats.date;
      each.textContent = new Intl.DateTimeFormat("sv-SE", form).format(at);
    }
    const zone = root.querySelector("#zone");
    if (zone) zone.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
  };

  const inUse = (part) =>
    [...part.querySelectorAll("input, select")].some(
      (field) => field === document.activeElement ||
        (field.tagName === "INPUT" && field.type !== "hidden" && field.value !== field.defaultValue)) ||
    part.querySelector("details[open]") !== null;

  // The smallest parts first: a failure with an open form stays, and the others around it are renewed.
  const renew = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    if (!inUse(old)) {
      const focus = old.contains(document.activeElement) ? place(old, document.activeElement) : null;
      old.replaceWith(fresh);
      if (focus) again(fresh, focus);
      return;
    }
    const inner = [...old.querySelectorAll("[data-part][id]")];
    for (const each of inner) {
      const found = fresh.querySelector("#" + CSS.escape(each.id));
      if (found) renew(each, found);
      else if (!inUse(each)) each.remove();
    }
  };
  const links = (part) => [...part.querySelectorAll("a, button, summary, [tabindex]")];
  const place = (part, element) => {
    const within = element.closest("[data-part]") || part;
    return { id: within.id, href: element.getAttribute("href"), at: links(within).indexOf(element) };
  };
  const again = (part, { id, href, at }) => {
    const within = part.id === id ? part : part.querySelector("#" + CSS.escape(id));
    const found = within ? links(within) : [];
    const same = found.find((each) => href && each.getAttribute("href") === href) || found[at];
    if (same) same.focus({ preventScroll: true });
  };

  const load = async () => {
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.status === 401) return location.reload(); // the login has ended
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      localise(page);
      const fresh = page.getElementById("main");
      const parts = [...main.children].filter((each) => each.id);
      const ids = (list) => list.map((each) => each.id).join();
      if (ids(parts) !== ids([...fresh.children].filter((each) => each.id)) && !inUse(main)) {
        main.replaceChildren(...fresh.childNodes);
      } else {
        for (const part of parts) {
          const found = fresh.querySelector("#" + CSS.escape(part.id));
          if (found && part.hasAttribute("data-part")) renew(part, found);
        }
      }
      main.dataset.every = fresh.dataset.every;
      document.title = page.title;
      document.getElementById("fresh").firstElementChild.replaceWith(page.getElementById("fresh").firstElementChild);
      stale.textContent = "";
    } catch {
      stale.textContent = "The daemon does not answer: this page may be out of date.";
    }
    wait();
  };
  const wait = () => {
    clearTimeout(timer);
    if (main.dataset.every && !document.hidden) timer = setTimeout(load, main.dataset.every * 1000);
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : main.dataset.every && load()));
  // A reload by hand does not say again what was done.
  if (new URLSearchParams(location.search).has("acted")) {
    const here = new URL(location.href);
    here.searchParams.delete("acted");
    history.replaceState(null, "", here);
  }
  localise(document);
  wait();
})();
