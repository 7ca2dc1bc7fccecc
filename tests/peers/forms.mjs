// Presses every button of every form of the pages in a real browser, as their users do, and looks up
// in the ledger what it changed. forms.mjs CONTEXT; exit 1 when something is wrong.
//   CONTEXT  a JSON file, written by tests/it/forms.rs: url, host (a name that leads to this machine, for
//            a proxy with a certificate of its own), prelim (the program), data (the node's
//            folder), mails (folder of the mail server), studies (three that are still being received),
//            twins (one with the images of two patients, still being received),
//            limb (one that is read by a gateway that is away, still being received),
//            password (of the account `first`, where everyone has to log in from the beginning, else ""),
//            image (a DICOM file), refused (AE title of a caller that was not let in),
//            browser ("chrome" or "firefox"), width, height, javascript (true or false)
// The table FORMS names every form of templates/web: one that is new, or gone, is an error.
// Needs the packages of tests/peers/package.json, installed into target/npm (scripts/test).
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";

const repository = path.resolve(path.dirname(new URL(import.meta.url).pathname), "../..");
const modules = createRequire(path.join(repository, "target/npm/package.json"));
const puppeteer = modules("puppeteer-core");
const context = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const PATIENCE = 90000;
const EXECUTABLES = { chrome: "/usr/bin/chromium", firefox: "/usr/bin/firefox-esr" };
const browser = await puppeteer.launch({
  browser: context.browser,
  acceptInsecureCerts: true,
  executablePath: EXECUTABLES[context.browser],
  args: context.browser === "chrome"
    ? ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
      `--host-resolver-rules=MAP ${context.host} 127.0.0.1`]
    : [],
  defaultViewport: { width: context.width, height: context.height },
});
const page = await browser.newPage();
page.setDefaultTimeout(PATIENCE);
if (!context.javascript) await page.setJavaScriptEnabled(false);
const [first, second, third] = context.studies;

/** An open page may be making itself anew at this moment, which would cut the way to the next one off. */
async function go(to) {
  await wait("an empty page", () => page.goto("about:blank").then(() => true, () => false));
  await page.goto(context.url + to, { waitUntil: "load" });
}
const text = (selector) => page.$eval(selector, (e) => e.textContent);

async function wait(what, ask) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const found = await ask();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${PATIENCE / 1000} s`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

/** Status of the last page that was answered. */
let answered = 0;
page.on("response", (response) => {
  if (response.request().isNavigationRequest() && response.frame() === page.mainFrame()) answered = response.status();
});

/** A press of the finger: what is pressed is brought into view, and the page that follows is there. */
async function press(selector) {
  const button = await page.$(selector);
  if (!button) throw new Error(`no ${selector} on ${page.url()}`);
  await page.evaluate(() => { document.documentElement.dataset.before = "1"; });
  await button.scrollIntoView();
  await button.click();
  const isThere = () => document.readyState === "complete" && !document.documentElement.dataset.before;
  // While one page goes and the next comes there is nothing to ask.
  await wait(`the page after ${selector}`, () => page.evaluate(isThere).catch(() => false));
  if (answered >= 400) throw new Error(`${selector}: ${answered} ${(await text("main")).trim()}`);
}

async function fill(selector, words) {
  const field = await page.$(selector);
  if (!field) throw new Error(`no ${selector} on ${page.url()}`);
  await field.scrollIntoView();
  // What stands there already is written over.
  await field.click({ count: 3 });
  await field.type(words);
}

function open(selector) {
  return page.$eval(selector, (e) => { e.closest("details").open = true; });
}

const told = (command) => {
  const said = execFileSync(context.prelim, [...command, "--json", "--data", context.data], { encoding: "utf8" });
  return JSON.parse(said);
};
const rows = () => told(["audit", "list", "--limit", "1000"]).rows;
const place = (row) => row.place.split(".").reduce((high, low) => Number(high) * 1e6 + Number(low), 0);
const study = (uid) => told(["study", uid]);
/** A mail that was kept; none while it is being written. */
function read(name) {
  try {
    return JSON.parse(fs.readFileSync(path.join(context.mails, name), "utf8"));
  } catch {
    return null;
  }
}

/** Where the link leads by which the alert of a study is answered, from the mail to this address. */
const link = (uid, to) => wait(`a mail to ${to}`, () => {
  const files = fs.readdirSync(context.mails).filter((name) => name.endsWith(".json")).sort();
  const mails = files.map(read).filter((mail) => mail);
  const mail = mails.find((mail) => mail.to[0] === to && mail.parts[0].text.includes(uid));
  return mail?.parts[0].text.match(/\/alert\/\S+/)[0];
});

const KIM = "kim@hospital.example";
const LEE = "lee@hospital.example";
/** The password of the first account, as its page shows it once. */
let chief = "";

/**
 * Every form, by its method, its address (`*` for what a page fills in) and the value of the button or
 * of the hidden field that tells it from others.
 *   press   as a person would; `changed`: what the ledger then has (deed and words);
 *   `shown`: true when what it asks for is on the page, where nothing changes in the ledger.
 */
const FORMS = {
  "get / ": {
    press: async () => { await go("/"); await page.type("input[name=q]", "nobody of this name"); await press(".filters button"); },
    shown: async () => page.url().includes("q=nobody") && (await page.$$("table.list tbody tr")).length === 0,
  },
  "get /analysis ": {
    press: async () => { await go("/analysis"); await page.select("select[name=by]", "model"); await press(".filters button"); },
    shown: async () => page.url().includes("by=model"),
  },
  "get /audit ": {
    press: async () => { await go("/audit"); await page.type("input[name=who]", "no such person"); await press(".filters button"); },
    shown: async () => page.url().includes("who=no") && (await page.$$("table tbody tr")).length === 0,
  },
  "get /queue ": {
    press: async () => { await go("/queue"); await page.select("select[name=state]", "dead"); await press(".filters button"); },
    shown: async () => page.url().includes("state=dead"),
  },
  "post /language language=*": {
    press: async () => {
      for (const [language, tag] of [["ko", "ko"], ["vi", "vi"], ["zh", "zh-Hans"], ["en", "en"]]) {
        await go("/queue");
        await press(`button[name=language][value=${language}]`);
        const is = await page.$eval("html", (e) => e.lang);
        if (is !== tag) throw new Error(`${language}: the page is in ${is}`);
      }
    },
    shown: async () => page.url().endsWith("/queue"),
  },
  "post /studies/*/complete ": {
    press: async () => {
      for (const uid of context.studies) {
        await go(`/studies/${uid}`);
        await open("button[formaction$='/complete']");
        await fill("#actions input[name=reason]", "all images are there");
        await press("button[formaction$='/complete']");
      }
      for (const uid of context.studies) await wait("the report", () => study(uid).outcome === "read");
    },
    changed: ["changed", /complete by .*all images are there/],
  },
  "post /rules ": {
    press: async () => {
      await go("/rules");
      await (await page.$("#file")).uploadFile(context.image);
      await press(".drop button");
    },
    shown: async () => (await page.$(".verdict-of")) !== null,
  },
  "post /queue/retry now": {
    press: async () => {
      await wait("a delivery that waits", async () => {
        await go("/queue?state=waiting&to=pacs.gone");
        return page.$("form[action='/queue/retry'] button");
      });
      await press("tbody form[action='/queue/retry'] button");
    },
    changed: ["changed", /^retried .*pacs\.gone/],
  },
  "post /queue/cancel ": {
    press: async () => {
      await wait("a delivery that waits", async () => {
        await go("/queue?state=waiting&to=pacs.gone");
        return page.$("form[action='/queue/cancel'] button");
      });
      await press("tbody form[action='/queue/cancel'] button");
    },
    changed: ["changed", /^cancelled .*pacs\.gone/],
  },
  "post /queue/retry all": {
    press: async () => {
      await wait("a delivery that was given up", async () => {
        await go("/queue?state=dead&to=webhook.refuses");
        return page.$("form.above[action='/queue/retry'] button");
      });
      await press("form.above[action='/queue/retry'] button");
    },
    changed: ["changed", /^retried .*webhook\.refuses/],
  },
  "post /queue/retry gateway": {
    press: async () => {
      await go(`/studies/${context.limb}`);
      await open("button[formaction$='/complete']");
      await press("button[formaction$='/complete']");
      await wait("a reading that waits", async () => {
        await go("/queue?state=waiting&to=away");
        return page.$("input[value='gateway:away'] + button");
      });
      await press("input[value='gateway:away'] + button");
    },
    changed: ["changed", new RegExp(`^retried ${context.limb}/1/analyse`)],
  },
  "post /sources/let-in ": {
    press: async () => { await go("/sources"); await press("form[action='/sources/let-in'] button"); },
    changed: ["changed", new RegExp(`${context.refused}.*let in`)],
  },
  "post /studies/*/feedback verdict=agree": {
    press: async () => { await go(`/studies/${first}`); await press("#finding-F1 button[value=agree]"); },
    changed: ["answered", /^agree on F1/],
  },
  "post /alerts/*/close ": {
    press: async () => {
      await go(`/studies/${second}`);
      if (context.javascript) await whileTyping();
      await open("form[action$='/close'] button");
      await fill("form[action$='/close'] input[name=name]", "Dr Lee");
      await fill("form[action$='/close'] input[name=note]", "known since Monday");
      await press("form[action$='/close'] button");
      const said = await text("[data-part=alerts]");
      // Who has logged in answers by that name.
      const who = context.password ? "first" : "Dr Lee";
      if (!said.includes(`${who} has closed it`) || !said.includes("known since Monday")) throw new Error(said);
    },
    changed: ["answered", /^closed alert .*page/],
  },
  "post /studies/*/feedback verdict=disagree": {
    press: async () => { await go(`/studies/${second}`); await press("#finding-F1 button[value=disagree]"); },
    changed: ["answered", /^disagree on F1/],
  },
  "post /studies/*/feedback ": {
    press: async () => {
      await go(`/studies/${first}`);
      await open("#missed select");
      await page.select("#missed select", "pneumonia");
      await fill("#missed input[name=comment]", "at the right base");
      await press("#missed button");
    },
    changed: ["answered", /^missed on /],
  },
  "post /alert/* answer=take": {
    press: async () => {
      await go(await link(first, KIM));
      await fill("#name", "Dr Kim");
      await press("button[value=take]");
    },
    changed: ["answered", /^took alert .*link/],
  },
  "post /alert/* answer=decline": {
    press: async () => {
      await go(await link(third, KIM));
      await press("button[value=decline]");
      await link(third, LEE);
    },
    changed: ["answered", /^handed alert .*link/],
  },
  "post /alerts/* ": {
    press: async () => {
      await go(`/studies/${third}`);
      await fill("[data-part=alerts] input[name=name]", "Dr Lee");
      await press("[data-part=alerts] form button");
    },
    changed: ["answered", /^took alert .*page/],
  },
  "post /studies/*/hold ": {
    press: async () => {
      await go(`/studies/${second}`);
      await open("button[formaction$='/hold']");
      await fill("#actions input[name=reason]", "not for the archive");
      await press("button[formaction$='/hold']");
    },
    changed: ["changed", /held by .*not for the archive/],
  },
  "post /studies/*/again ": {
    press: async () => {
      await go(`/studies/${second}`);
      await open("button[formaction$='/again']");
      await fill("#actions input[name=reason]", "it is for the archive");
      await press("button[formaction$='/again']");
    },
    changed: ["changed", /read again by .*it is for the archive/],
  },
  "post /studies/*/origin ": {
    press: async () => {
      await go(`/studies/${third}`);
      await open("[data-part=objects] select[name=origin]");
      await page.select("[data-part=objects] select[name=origin]", "derived");
      await fill("[data-part=objects] input[name=reason]", "a drawing");
      await press("[data-part=objects] form button");
    },
    changed: ["changed", /^1 objects are derived/],
  },
  "post /studies/*/identity number=*": {
    press: async () => {
      await go(`/studies/${context.twins}`);
      await open("button[formaction$='/complete']");
      await press("button[formaction$='/complete']");
      await wait("two patients", () => study(context.twins).state === "needs_review");
      await go(`/studies/${context.twins}`);
      await fill("#whose input[name=reason]", "asked the ward");
      await press("#whose button[value='2']");
    },
    changed: ["changed", /^said whose the study is/],
  },
  // The first account: from then on everyone logs in.
  "post /accounts deed=add": {
    press: async () => {
      await go("/accounts");
      await fill("form[aria-label]:has(input[value=add]) input[name=name]", "chief");
      await page.select("form[aria-label]:has(input[value=add]) select", "administrator");
      await press("form[aria-label]:has(input[value=add]) button");
      chief = (await text(".secret")).trim();
    },
    changed: ["changed", /chief/],
  },
  "post /login ": {
    press: async () => {
      if (context.password) await logOut();
      await logIn("chief", chief);
    },
    changed: ["login", /^login$/],
  },
  "post /accounts deed=role": {
    press: async () => {
      await go("/accounts");
      await fill("form[aria-label]:has(input[value=add]) input[name=name]", "kim");
      await press("form[aria-label]:has(input[value=add]) button");
      await person("kim");
      await page.select("details[open] form:has(input[value=role]) select", "on_call");
      await press("details[open] form:has(input[value=role]) button");
    },
    changed: ["changed", /kim/],
  },
  "post /accounts deed=password": {
    press: async () => {
      await person("kim");
      await press("details[open] form:has(input[value=password]) button");
      if (!(await text(".secret")).trim()) throw new Error("no new password is shown");
    },
    changed: ["changed", /kim/],
  },
  "post /accounts deed=remove": {
    press: async () => { await person("kim"); await press("details[open] form:has(input[name=deed][value=remove]) button"); },
    changed: ["changed", /kim/],
  },
  "post /accounts deed=add_token": {
    press: async () => {
      await go("/accounts");
      const form = "form:has(input[value=add_token])";
      await fill(`${form} input[name=name]`, "ris");
      await (await page.$(`${form} input[name=view]`)).click();
      await press(`${form} button`);
    },
    changed: ["changed", /ris/],
  },
  "post /accounts deed=remove_token": {
    press: async () => { await go("/accounts"); await press("form:has(input[value=remove_token]) button"); },
    changed: ["changed", /ris/],
  },
  "post /account/password ": {
    press: async () => {
      await go("/account");
      await fill("#old", chief);
      await fill("#new", "a walk over nine hills");
      await fill("#again", "a walk over nine hills");
      await press("#main form[action='/account/password'] button");
    },
    changed: ["changed", /chief/],
  },
  "post /logout ": {
    press: logOut,
    changed: ["login", /^logout$/],
  },
};

async function logIn(name, password) {
  await go("/");
  await fill("#name", name);
  await fill("#password", password);
  await press("main button");
}

async function logOut() {
  await go("/");
  await press("form[action='/logout'] button");
}

/** Somebody writes a reason while the study changes: the page goes on, and takes no word away. */
async function whileTyping() {
  const reason = "form[action$='/close'] input[name=note]";
  await open(reason);
  await fill(reason, "half a sent");
  const word = ["feedback", second, "--finding", "F1", "--agree", "--comment", "written meanwhile"];
  execFileSync(context.prelim, [...word, "--data", context.data]);
  await wait("the other's word on the page", async () => (await text("main")).includes("written meanwhile"));
  const kept = await page.$eval(reason, (e) => [e.value, e.closest("details").open, e === document.activeElement]);
  if (kept.join() !== "half a sent,true,true") throw new Error(`what was being written is gone: ${kept}`);
}

async function person(name) {
  await go("/accounts");
  await page.$$eval("details", (all, who) => all.forEach((e) => { e.open = e.textContent.includes(who); }), name);
}

/** The forms of the templates, in the words of FORMS. */
function inTemplates() {
  const found = new Set();
  const folder = path.join(repository, "templates/web");
  for (const name of fs.readdirSync(folder).filter((name) => name.endsWith(".hbs"))) {
    const source = fs.readFileSync(path.join(folder, name), "utf8");
    for (const [, head, body] of source.matchAll(/<form\b((?:[^>{]|\{\{[^}]*\}\})*)>([\s\S]*?)<\/form>/g)) {
      const method = head.match(/method="(\w+)"/)[1];
      const star = (address) => address.replace(/\{\{[^}]*\}\}/g, "*");
      const action = head.match(/action="([^"]*)"/)?.[1];
      const deed = body.match(/name="deed" value="(\w+)"/)?.[1];
      const buttons = [...body.matchAll(/<button\b((?:[^>{]|\{\{[^}]*\}\})*)>/g)].map(([, words]) => words);
      for (const words of buttons.filter((words) => !words.includes('type="button"'))) {
        const to = star(words.match(/formaction="([^"]*)"/)?.[1] ?? action);
        const [, field, value] = words.match(/name="(\w+)" value="([^"]*)"/) ?? [];
        let mark = deed ? `deed=${deed}` : field ? `${field}=${star(value)}` : "";
        if (to === "/queue/retry") mark = body.includes("gateway:") ? "gateway" : head.includes("above") ? "all" : "now";
        found.add(`${method} ${to} ${mark}`);
      }
    }
  }
  return found;
}

const wrong = [];
const templates = inTemplates();
for (const key of templates) if (!FORMS[key]) wrong.push(`a form that nobody presses: ${key}`);
for (const key of Object.keys(FORMS)) if (!templates.has(key)) wrong.push(`no template has this form: ${key}`);

if (context.password) await logIn("first", context.password);
for (const [key, form] of wrong.length ? [] : Object.entries(FORMS)) {
  try {
    const before = Math.max(0, ...rows().map(place));
    await form.press();
    if (form.shown && !(await form.shown())) wrong.push(`${key}: not what was asked for: ${page.url()}`);
    if (form.changed) {
      const [deed, words] = form.changed;
      const is = (row) => place(row) > before && row.deed === deed && words.test(row.what);
      await wait(`${deed} ${words} in the ledger`, () => rows().some(is));
    }
  } catch (error) {
    wrong.push(`${key}: ${error.message}`);
    if (process.env.PRELIM_PAGES) await page.screenshot({ path: `${process.env.PRELIM_PAGES}/wrong-${wrong.length}.png` });
  }
}
await browser.close();
wrong.forEach((line) => console.error(line));
console.log(wrong.length ? `${wrong.length} things are wrong` : `${Object.keys(FORMS).length} forms were pressed`);
process.exit(wrong.length ? 1 : 0);
