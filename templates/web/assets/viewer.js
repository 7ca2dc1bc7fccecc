"use strict";
// Scrolls through the original images of a study, windows them, and draws what was found on them.
(() => {
  const root = document.getElementById("viewer");
  if (!root) return;
  const stack = JSON.parse(root.dataset.stack);
  if (!stack.series.length) return;
  const find = (name) => root.querySelector(`[data-part-of="${name}"]`);
  const svg = find("image");
  const [picture, marks] = [svg.querySelector("image"), svg.querySelector("g")];
  const [slider, series, presets, where, tool] = ["slider", "series", "presets", "where", "tool"].map(find);
  const SVG = "http://www.w3.org/2000/svg";
  let [at, slice, win, wanted, shown, busy] = [0, 0, null, "", "", false];

  const current = () => stack.series[at];
  const image = () => current().images[slice];
  const rest = (i, w) => {
    const frame = i.frame ? `/frames/${i.frame}` : "";
    const at = `${root.dataset.url}/series/${current().uid}/instances/${i.sop}${frame}/rendered`;
    return `${at}?accept=image/jpeg${w ? `&window=${w[0].toFixed(1)},${Math.max(1, w[1]).toFixed(1)},linear` : ""}`;
  };

  // The window of an image that has none of its own: the node found it in the values.
  async function ask(i) {
    if (i.window || !i.is_grey || i.asked) return;
    i.asked = true;
    const said = (await fetch(rest(i), { method: "HEAD" }).catch(() => null))?.headers.get("prelim-window");
    if (!said) return;
    const [center, width, computed] = said.split(",");
    i.window = [Number(center), Number(width)];
    i.computed = computed === "computed";
    if (i === image()) label();
  }

  // One request at a time; whatever was asked for meanwhile is overtaken by the last.
  function load() {
    wanted = rest(image(), win);
    if (busy || wanted === shown) return;
    busy = true;
    const loading = wanted;
    const next = new Image();
    const done = (ok) => {
      busy = false;
      shown = loading;
      if (ok) picture.setAttribute("href", loading);
      root.classList.toggle("failed", !ok);
      if (wanted !== shown) load();
      else {
        ask(image());
        ahead();
      }
    };
    next.onload = () => done(true);
    next.onerror = () => done(false);
    next.src = loading;
  }

  function ahead() {
    for (const step of [1, -1, 2]) {
      const near = current().images[slice + step];
      if (near) new Image().src = rest(near, win);
    }
  }

  function draw() {
    const i = image();
    svg.setAttribute("viewBox", `0 0 ${i.columns} ${i.rows}`);
    picture.setAttribute("width", i.columns);
    picture.setAttribute("height", i.rows);
    marks.replaceChildren();
    const unit = Math.max(i.columns, i.rows) / 100;
    for (const mark of i.marks.filter((m) => m.region)) {
      const [x0, y0, x1, y1] = mark.region;
      const box = document.createElementNS(SVG, "rect");
      const text = document.createElementNS(SVG, "text");
      const set = (e, all) => Object.entries(all).forEach(([k, v]) => e.setAttribute(k, v));
      set(box, { x: x0, y: y0, width: x1 - x0, height: y1 - y0, fill: "none", "stroke-width": unit * 0.4, class: mark.key });
      set(text, { x: x0, y: y0 > 5 * unit ? y0 - unit : y0 + 4 * unit, "font-size": 3.4 * unit, "stroke-width": unit * 0.5 });
      text.textContent = mark.finding;
      marks.append(box, text);
    }
    slider.max = current().images.length - 1;
    slider.value = slice;
    label();
    load();
  }

  function label() {
    const i = image();
    const w = win || i.window;
    const seen = [...new Set(i.marks.map((m) => m.finding))].join(" ");
    const computed = !win && i.computed ? ` ${root.dataset.computed}` : "";
    const shown = w ? ` · W ${Math.round(w[1])} L ${Math.round(w[0])}${computed}` : "";
    where.textContent = `${slice + 1} / ${current().images.length}${shown}${seen ? ` · ${seen}` : ""}`;
    slider.setAttribute("aria-valuetext", where.textContent);
  }

  const move = (to) => {
    slice = Math.min(Math.max(0, to), current().images.length - 1);
    draw();
  };
  function choose(number) {
    [at, slice, win] = [number, 0, null];
    series.value = number;
    presets.replaceChildren(presets.options[0]);
    for (const [name, c, w] of current().windows) {
      presets.add(new Option(`${name} (${c}/${w})`, `${c},${w}`));
    }
    presets.value = "";
    move(Math.floor((current().images.length - 1) / 2));
  }
  const preset = () => {
    win = presets.value ? presets.value.split(",").map(Number) : null;
    draw();
  };

  // Where a finding is: its first region, else the first image that it rests on.
  function jump(finding) {
    const hits = [];
    stack.series.forEach((s, n) => s.images.forEach((i, m) =>
      i.marks.filter((k) => k.finding === finding).forEach((k) => hits.push([k.region ? 0 : 1, n, m]))));
    hits.sort((a, b) => a[0] - b[0]);
    if (!hits.length) return false;
    if (hits[0][1] !== at) choose(hits[0][1]);
    move(hits[0][2]);
    root.scrollIntoView({ block: "nearest" });
    svg.focus({ preventScroll: true });
    return true;
  }

  stack.series.forEach((s, n) => series.add(new Option(`${s.label} (${s.images.length})`, n)));
  series.addEventListener("change", () => choose(Number(series.value)));
  slider.addEventListener("input", () => move(Number(slider.value)));
  presets.addEventListener("change", preset);
  svg.addEventListener("wheel", (e) => {
    if (current().images.length < 2) return;
    e.preventDefault();
    move(slice + Math.sign(e.deltaY));
  }, { passive: false });
  const keys = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10, Home: -1e6, End: 1e6 };
  svg.addEventListener("keydown", (e) => {
    if (keys[e.key]) move(slice + keys[e.key]);
    else if (/^[0-9]$/.test(e.key) && presets.options[e.key]) {
      presets.selectedIndex = e.key;
      preset();
    } else return;
    e.preventDefault();
  });

  // Right button, or any with the tool on: window. Else: slices.
  let drag = null;
  svg.addEventListener("contextmenu", (e) => e.preventDefault());
  svg.addEventListener("pointerdown", (e) => {
    const windowing = e.button === 2 || tool.getAttribute("aria-pressed") === "true";
    if (windowing && !win && !image().window) return;
    drag = { x: e.clientX, y: e.clientY, slice, from: win || image().window, windowing };
    svg.setPointerCapture(e.pointerId);
  });
  svg.addEventListener("pointermove", (e) => {
    if (!drag) return;
    const [dx, dy] = [e.clientX - drag.x, e.clientY - drag.y];
    if (drag.windowing) {
      const step = Math.max(1, drag.from[1]) / 250;
      win = [drag.from[0] + dy * step, Math.max(1, drag.from[1] + dx * step)];
      presets.selectedIndex = -1;
      draw();
    } else if (current().images.length > 1) move(drag.slice + Math.round(dy / 8));
  });
  for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => (drag = null));
  tool.addEventListener("click", () =>
    tool.setAttribute("aria-pressed", String(tool.getAttribute("aria-pressed") !== "true")));
  find("reset").addEventListener("click", () => {
    presets.value = "";
    preset();
  });
  document.addEventListener("click", (e) => {
    const link = e.target.closest?.("[data-jump]");
    if (link && jump(link.dataset.jump)) e.preventDefault();
  });

  root.hidden = false;
  choose(0);
  const first = stack.series.flatMap((s) => s.images).flatMap((i) => i.marks)[0];
  if (first) {
    jump(first.finding);
    document.activeElement?.blur();
    scrollTo(0, 0);
  }
})();
