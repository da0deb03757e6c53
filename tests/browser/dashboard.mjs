// The dashboard as people use it, in a real browser: looks, opens a backup, restores it beside what is there, watches.
// Called by tests/suite/dashboard.rs: node dashboard.mjs URL BACKUP DATASET FOLDER TOKEN. Prints what it saw as JSON.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";

const [url, backup, dataset, folder, token] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const seen = { serious: [], errors: [], overflow: [], steps: [], axe: 0 };

const browser = await chromium.launch({ executablePath: process.env.STRONGROOM_CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
const page = await context.newPage();
// (A confirmation that does not fit is answered by 422, which the browser tells, too.)
page.on("console", (message) => message.type() === "error" && !message.text().includes("422") && seen.errors.push(`${page.url()}: ${message.text()}`));
page.on("pageerror", (error) => seen.errors.push(`${page.url()}: ${error.message}`));
page.on("request", (request) => request.url().startsWith(url) || request.url().startsWith("data:") || seen.errors.push(`leaves the worker: ${request.url()}`));

// Nothing serious, on a desktop and on a phone, and nothing wider than the window.
async function look(name) {
  for (const [kind, width, height] of [["phone", 390, 844], ["desktop", 1280, 900]]) {
    await page.setViewportSize({ width, height });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) seen.overflow.push(`${name} on ${kind}: ${wide} px`);
    // What differs on a desktop is where things stand.
    if (kind === "phone" || name === "overview" || name === "backup") await judge(`${name} on ${kind}`);
    await page.screenshot({ path: path.join(folder, `${name}-${kind}.png`), fullPage: true });
  }
}

async function judge(where) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run());
  seen.axe += found.passes.length;
  for (const violation of found.violations.filter((v) => ["serious", "critical"].includes(v.impact))) {
    seen.serious.push(`${where}: ${violation.id}: ${violation.nodes.map((n) => n.html).join(" | ").slice(0, 400)}`);
  }
}

// In: without a token nothing is seen.
await page.goto(url);
seen.door = await page.locator("h1").innerText();
await look("sign-in");
await page.getByLabel("Token").fill(token);
await page.keyboard.press("Enter");
await page.waitForURL(`${url}/`);
seen.verdict = await page.locator("#verdict strong").innerText();
seen.listed = await page.locator("table.backups tbody th a").allInnerTexts();
await look("overview");

// A backup.
await page.getByRole("link", { name: backup, exact: true }).first().click();
await page.waitForURL(`${url}/ui/backups/${backup}`);
seen.backup = await page.locator("#verdict strong").innerText();
seen.tables = await page.locator("#tables tbody th:not(.sub)").allInnerTexts();
await page.getByText("objects with their checksums").click();
seen.objects = await page.locator("#objects tbody tr").count();
await look("backup");

// A restore beside, by keyboard alone from here on.
const press = async (locator) => { await locator.focus(); await page.keyboard.press("Enter"); };
await press(page.getByRole("link", { name: "Restore from it" }));
await page.waitForURL(/\/ui\/restore\?/);
const form = page.locator("form.card").first();
await form.getByRole("textbox").fill(dataset);
await look("restore-what");
await press(form.getByRole("button"));
await page.waitForURL(/\/ui\/restore\/plan/);
seen.plan = await page.locator("#plan tbody th").allInnerTexts();
await look("restore-plan");
const target = await page.locator("label[for=confirm] code").innerText();
await page.getByRole("textbox").fill("something else");
await page.keyboard.press("Enter");
await page.waitForURL(`${url}/ui/restore`);
seen.refused = await page.getByRole("alert").innerText();
await look("restore-refused");
await page.getByRole("textbox").fill(target);
await page.keyboard.press("Enter");
await page.waitForURL(/\/ui\/operations\/page-/);

// Live: the steps come without the page being loaded again.
await page.evaluate(() => { window.stayed = true; });
const live = page.locator("#steps tbody tr");
for (let n = 0; n < 600 && (await page.locator("#verdict").count()) === 0; n++) {
  const stayed = await page.evaluate(() => window.stayed === true && document.getElementById("live") !== null).catch(() => false);
  const names = stayed ? await live.locator("th").allInnerTexts().catch(() => []) : [];
  if (names.length > (seen.steps.at(-1)?.length ?? 0)) {
    seen.steps.push(names);
    if (seen.steps.length === 2) await page.screenshot({ path: path.join(folder, "operation-live.png"), fullPage: true });
  }
  await page.waitForTimeout(50);
}
seen.outcome = await page.locator("#verdict strong").innerText();
seen.restored = await page.locator("#restored tbody tr").allInnerTexts();
await look("operation");

for (const [name, link] of [["operations", "Operations"], ["drills", "Drills"], ["restore-which", "Restore"]]) {
  await page.getByRole("navigation").getByRole("link", { name: link }).click();
  await look(name);
}
const drill = page.getByRole("navigation").getByRole("link", { name: "Drills" });
await drill.click();
await page.locator("#drills a").first().click();
seen.drill = await page.locator("#verdict strong").innerText();
await look("drill");

await page.getByRole("button", { name: "Sign out" }).click();
await page.waitForURL(`${url}/ui/sign-in`);
await page.goto(url);
seen.after = await page.locator("h1").innerText();
await browser.close();


console.log(JSON.stringify(seen));
