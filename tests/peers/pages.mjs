// Goes through every page of a running node as its users do: with the mouse, with the keyboard alone,
// on a phone, in the dark, without JavaScript, in four languages; axe-core looks at each page.
// pages.mjs URL STUDY SERIES IMAGE [FOLDER]; exit 1 when something is wrong.
//   STUDY   a study with a finding and a region       SERIES  a study of several slices
//   IMAGE   a DICOM file to try the rules with
//   FOLDER  where pictures of the pages go
// Needs the packages of tests/peers/package.json, installed into target/npm (scripts/test), and chromium.
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";

const repository = path.resolve(path.dirname(new URL(import.meta.url).pathname), "../..");
const modules = createRequire(path.join(repository, "target/npm/package.json"));
const { chromium } = modules("playwright-core");
const axe = fs.readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");
const [base, study, series, image, pictures] = process.argv.slice(2);

const wrong = [];
const check = (is, what) => is || wrong.push(what);
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const WIDE = { width: 1400, height: 900 };
const PHONE = { width: 390, height: 844 };
const PAGES = {
  worklist: "/", filtered: "/?q=nobody&state=delivered", queue: "/queue", sources: "/sources", analysis: "/analysis", rules: "/rules",
  audit: "/audit", accounts: "/accounts", settings: "/settings", study: `/studies/${study}`, series: `/studies/${series}`, missing: "/studies/9.9",
};

async function open(options, visit) {
  const context = await browser.newContext({ viewport: WIDE, locale: "en-US", ...options });
  const page = await context.newPage();
  let at = "";
  page.on("console", (said) => {
    const expected = at.includes("9.9") && said.text().includes("404");
    if (said.type() === "error" && !expected) wrong.push(`${at}: console: ${said.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`${at}: ${error}`));
  page.setDefaultTimeout(15000);
  const go = async (to) => {
    at = to;
    // The page keeps a stream of events open: it never is idle.
    await page.goto(base + to, { waitUntil: "load" });
    return page;
  };
  await visit(page, go, context).catch((error) => wrong.push(`${at}: ${error}`));
  await context.close();
}

// No violation of WCAG 2.1 A and AA, no scrolling sideways; light and dark, wide and narrow.
const looks = pictures ? ["light wide", "dark phone", "light phone", "dark wide"] : ["light wide", "dark phone"];
for (const look of looks) {
  const [colorScheme, size] = look.split(" ");
  await open({ colorScheme, viewport: size === "wide" ? WIDE : PHONE }, async (page, go) => {
    for (const [name, to] of Object.entries(PAGES)) {
      const where = `${name}, ${look}`;
      await go(to);
      await page.evaluate(axe);
      const found = await page.evaluate(() =>
        axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], iframes: false }));
      for (const violation of found.violations) {
        const nodes = violation.nodes.slice(0, 3).map((n) => `${n.target} ${n.any[0]?.message ?? ""}`);
        wrong.push(`${where}: ${violation.id}: ${nodes.join("; ")}`);
      }
      const wide = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      check(wide[0] <= wide[1], `${where}: ${wide[0]} px wide on ${wide[1]}`);
      if (pictures) await page.screenshot({ path: `${pictures}/${name}-${colorScheme}-${size}.png` });
    }
  });
}

// Each language says its name, and nothing is left in the words of another.
await open({ viewport: PHONE }, async (page, go) => {
  const titles = new Set();
  for (const [language, tag] of [["ko", "ko"], ["vi", "vi"], ["zh", "zh-Hans"], ["en", "en"]]) {
    await go("/queue");
    await page.click(`button[name=language][value=${language}]`);
    await page.waitForURL("**/queue");
    check((await page.getAttribute("html", "lang")) === tag, `${language}: lang`);
    titles.add(await page.textContent("h1"));
    for (const to of ["/", "/queue", "/analysis", `/studies/${study}`]) {
      await go(to);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      check(wide <= PHONE.width, `${language} ${to}: ${wide} px wide`);
    }
  }
  check(titles.size === 4, `four languages, titles ${[...titles]}`);
});
await open({ locale: "ko-KR" }, async (page, go) => {
  await go("/");
  check((await page.getAttribute("html", "lang")) === "ko", "the language of the browser");
});

// By keyboard alone: skip link, filters, a study, its slices.
await open({}, async (page, go) => {
  await go("/");
  const focused = () => page.evaluate(() => {
    const e = document.activeElement;
    const style = getComputedStyle(e);
    return { text: e.textContent.trim(), href: e.getAttribute("href") ?? "", // The parts of a date field show their focus within the browser's own shadow tree.
      outline: e.type === "date" || style.outlineStyle !== "none" };
  });
  await page.keyboard.press("Tab");
  const skip = await focused();
  check(skip.href === "#main" && skip.outline, `the first stop is the skip link: ${JSON.stringify(skip)}`);
  await page.keyboard.press("Enter");
  let stop = {};
  for (let n = 0; n < 40 && stop.href !== `/studies/${study}`; n++) {
    await page.keyboard.press("Tab");
    stop = await focused();
    check(stop.outline, `focus can be seen: ${JSON.stringify(stop)}`);
  }
  check(stop.href === `/studies/${study}`, "a study is reached by Tab");
  await page.keyboard.press("Enter");
  await page.waitForURL(`**/studies/${study}`);
});

// The original images: slices, windows, and the way from a finding to its region.
await open({}, async (page, go) => {
  await go(`/studies/${series}`);
  const where = () => page.textContent("[data-part-of=where]");
  const picture = () => page.getAttribute("#viewer image", "href");
  const svg = page.locator("#viewer svg");
  await page.waitForFunction(() => document.querySelector("#viewer image").getAttribute("href"));
  await svg.focus();
  await page.keyboard.press("Home");
  check((await where()).startsWith("1 / 5"), `Home: ${await where()}`);
  await page.keyboard.press("ArrowDown");
  check((await where()).startsWith("2 / 5"), `ArrowDown: ${await where()}`);
  await svg.hover();
  await page.mouse.wheel(0, 100);
  await page.waitForFunction(() => document.querySelector("[data-part-of=where]").textContent.startsWith("3 / 5"));
  await page.selectOption("[data-part-of=presets]", { label: "lung (-600/1500)" });
  check((await where()).includes("W 1500 L -600"), `a preset: ${await where()}`);
  await page.waitForFunction(() => document.querySelector("#viewer image").getAttribute("href").includes("-600.0,1500.0"));
  const box = await svg.boundingBox();
  await page.mouse.move(box.x + 200, box.y + 200);
  await page.mouse.down({ button: "right" });
  await page.mouse.move(box.x + 260, box.y + 150, { steps: 4 });
  await page.mouse.up({ button: "right" });
  check(!(await where()).includes("W 1500 L -600"), `dragged: ${await where()}`);
  check((await picture()).includes("window="), "the node makes the window");
  check((await page.locator("#viewer.failed").count()) === 0, "every image could be shown");

  await go(`/studies/${study}`);
  check((await page.locator("#viewer svg rect").count()) > 0, "the region is drawn on the image");
  await page.evaluate(() => scrollTo(0, 1e6));
  await page.click("[data-jump=F1]");
  const seen = await svg.evaluate((e) => e.getBoundingClientRect().top < innerHeight && document.activeElement === e);
  check(seen, "a finding leads to its image");
});

// What a person says stands on the page and in the audit.
await open({}, async (page, go) => {
  await go(`/studies/${study}`);
  await page.click("#finding-F1 button[value=disagree]");
  await page.waitForURL(`**/studies/${study}*`);
  check((await page.textContent("[data-part=evidence]")).includes("Disagrees"), "disagreement is noted");
  await page.click("#actions summary");
  await page.fill("#actions input[name=reason]", "a better prompt");
  await page.click(`button[formaction$="/again"]`);
  await page.waitForFunction(() => document.querySelector("[data-part=head]").textContent.includes("revision 2"));
  check((await page.textContent("[data-part=history]")).includes("a better prompt"), "why stands in the history");
  await page.waitForFunction(() => document.querySelector("[data-part=head]").textContent.includes("Delivered"), null, { timeout: 30000 });
  await go("/audit?deed=changed");
  check((await page.textContent("main")).includes("read again by word of"), "and in the audit");
});

// What would be done with a file: profile, prompt and picture, and nothing of it stays.
await open({}, async (page, go) => {
  await go("/rules");
  await page.setInputFiles("#file", image);
  await page.click(".drop button");
  await page.waitForSelector(".verdict-of");
  const said = await page.textContent("main");
  for (const words of ["It would be read as Chest X-ray", "gateway main", "other modality"]) {
    check(said.includes(words), `rules: no ${words}`);
  }
  check((await page.locator("pre").textContent()).length > 200, "the prompt");
  const drawn = await page.$eval("figure img", (e) => e.complete && e.naturalWidth > 0);
  check(drawn, "the picture that would be shown");
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
  found.violations.forEach((v) => wrong.push(`rules, tried: ${v.id}: ${v.nodes[0].target}`));
  if (pictures) await page.screenshot({ path: `${pictures}/rules-tried.png` });
});

// Without JavaScript: lists, filters, pictures.
await open({ javaScriptEnabled: false }, async (page, go) => {
  await go("/");
  const all = await page.locator("table.list tbody tr").count();
  await page.selectOption("select[name=modality]", "CT");
  await page.click(".filters button");
  const some = await page.locator("table.list tbody tr").count();
  check(some > 0 && some < all, `filtered: ${some} of ${all}`);
  await go(`/studies/${study}`);
  check(await page.locator("figure image").first().isVisible(), "the pictures that were read");
  check(!(await page.locator("#viewer").isVisible()), "no viewer that does nothing");
});

// The first account, a colleague and a token, by keyboard; from then on everyone logs in.
await open({ colorScheme: "dark" }, async (page, go) => {
  const looks = async (name) => {
    await page.evaluate(axe);
    const found = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
    found.violations.forEach((v) => wrong.push(`${name}: ${v.id}: ${v.nodes[0].target}`));
    const wide = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    check(wide[0] <= wide[1], `${name}: ${wide[0]} px wide on ${wide[1]}`);
    if (pictures) await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });
  };
  const enter = async (form, name, ...keys) => {
    await page.focus(`form[aria-label="${form}"] input[name=name]`);
    await page.keyboard.type(name);
    for (const key of keys) await page.keyboard.press(key);
    await page.waitForSelector(`[role=status]:has-text("${name}")`);
    return (await page.textContent(".secret")).trim();
  };
  await go("/accounts");
  const password = await enter("Add a person", "chief", "Enter");
  await looks("accounts-first");
  await go("/accounts");
  check(page.url().includes("/login?next=/accounts"), `everyone logs in: ${page.url()}`);
  await looks("login");
  await page.fill("#name", "chief");
  await page.fill("#password", password);
  await page.keyboard.press("Enter");
  await page.waitForURL("**/accounts");
  await enter("Add a person", "kim", "Tab", "ArrowDown", "ArrowDown", "Tab", "Tab", "Enter");
  const token = await enter("Make a token", "ris", "Tab", "Tab", "Space", "Enter");
  check(token.startsWith("prelim_ris@"), "a token is shown");
  await page.click("tr:has-text('kim') summary");
  await looks("accounts");
  await page.setViewportSize(PHONE);
  await looks("accounts-phone");
  await page.locator("tr:has-text('kim') button", { hasText: "Remove" }).click();
  await page.waitForSelector("[role=status]");
  check((await page.locator("tr:has-text('kim')").count()) === 0, "kim is removed");
});

await browser.close();
wrong.forEach((line) => console.error(line));
console.log(wrong.length ? `${wrong.length} things are wrong` : "all pages are in order");
process.exit(wrong.length ? 1 : 0);
