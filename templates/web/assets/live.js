"use strict";
// Keeps an open page true: replaces the parts that changed, and says so when it cannot.
(() => {
  // Time that is left, of everything that says until when.
  const count = () => {
    for (const e of document.querySelectorAll("time[data-until]")) {
      const left = Math.max(0, Math.round((Date.parse(e.dataset.until) - Date.now()) / 1000));
      const two = (n) => String(n).padStart(2, "0");
      const hours = Math.floor(left / 3600);
      e.textContent = `${hours ? `${hours}:` : ""}${two(Math.floor(left / 60) % 60)}:${two(left % 60)}`;
      e.classList.toggle("soon", left < 300);
    }
  };
  count();
  setInterval(count, 1000);

  const main = document.getElementById("main");
  const light = document.getElementById("live");
  if (!main || !light || !main.dataset.events || !window.EventSource) return;

  const part = (root) =>
    new Map([...root.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e.outerHTML]));
  let shown = part(document);
  let busy = false;
  let again = false;

  const say = (state, text) => {
    if (light.dataset.state !== state) {
      light.dataset.state = state;
      light.textContent = text;
    }
  };

  // What a person is at is not taken from under their hands: words that are not sent yet, the field
  // that has the focus, a press of this moment.
  let pressed = -Infinity;
  let leaves = false;
  addEventListener("pointerdown", () => (pressed = performance.now()), true);
  addEventListener("submit", () => (leaves = true));
  addEventListener("pageshow", () => (leaves = false));
  const isChanged = (e) => {
    if (e.type === "checkbox" || e.type === "radio") return e.checked !== e.defaultChecked;
    if (e.tagName !== "SELECT") return e.value !== e.defaultValue;
    const given = [...e.options].findIndex((option) => option.defaultSelected);
    return e.selectedIndex !== Math.max(0, given);
  };
  const isInUse = (root) =>
    performance.now() - pressed < 1000 ||
    [...root.querySelectorAll("input:not([type=hidden]), textarea, select")].some(
      (e) => e === document.activeElement || isChanged(e),
    );

  async function refresh() {
    if (leaves) return;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected) {
        location.reload();
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = part(fresh);
      // A part that comes or goes changes the layout: then the whole page is made anew.
      const isOther = [...next.keys()].join() !== [...shown.keys()].join();
      if (isOther && !isInUse(document)) {
        location.reload();
        return;
      }
      again ||= isOther;
      for (const [name, html] of next) {
        const old = document.querySelector(`[data-part="${name}"]`);
        if (!old || html === shown.get(name)) continue;
        if (isInUse(old)) {
          again = true;
          continue;
        }
        const open = [...old.querySelectorAll("details")].map((e) => e.open);
        const fresher = document.importNode(fresh.querySelector(`[data-part="${name}"]`), true);
        [...fresher.querySelectorAll("details")].forEach((e, nth) => (e.open = open[nth] ?? e.open));
        old.replaceWith(fresher);
        shown.set(name, html);
      }
      document.title = fresh.title;
      main.dataset.version = fresh.getElementById("main").dataset.version;
    } catch {
      say("lost", light.dataset.lost);
    } finally {
      busy = false;
      if (again) {
        again = false;
        setTimeout(refresh, 1000);
      }
    }
  }

  const source = new EventSource(main.dataset.events);
  source.addEventListener("version", (event) => {
    say("live", light.dataset.live);
    if (event.data !== main.dataset.version) refresh();
  });
  source.addEventListener("open", () => say("live", light.dataset.live));
  source.addEventListener("error", () => {
    const at = new Date().toTimeString().slice(0, 5);
    say("lost", `${light.dataset.lost} ${at}`);
  });
  addEventListener("pagehide", () => source.close());
  // "12 min ago" has to grow also when nothing happens.
  setInterval(() => document.visibilityState === "visible" && refresh(), 60000);
})();
