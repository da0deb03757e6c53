//! The pages of drills and backups as a browser shows them: their figures are read, they fit a phone, they print, and
//! their colours can be read. Without a Chromium the tests say so and pass; `scripts/test` installs one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::estate::{DATASET, Estate, PROJECT};
use crate::proxy::{Action, Proxy};

/// The browser: named by STRONGROOM_CHROMIUM, or found by its usual names.
pub fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("STRONGROOM_CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
    named.or_else(|| {
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        usual.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|file| file.is_file())
    })
}

struct Browser {
    program: PathBuf,
    profile: tempfile::TempDir,
}

impl Browser {
    fn run(&self, (width, height): (u32, u32), args: &[String], page: &Path) -> String {
        let output = Command::new(&self.program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"])
            // Nothing outside is reached: the page needs no network.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND")
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .arg(format!("--window-size={width},{height}"))
            .args(args)
            .arg(format!("file://{}", page.display()))
            .stdin(Stdio::null())
            .output()
            .expect("the browser runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a script finds in the page at a size of the window. The page itself has no script and admits none: it is
    /// measured in a copy that does.
    fn measure(&self, size: (u32, u32), page: &Path) -> Value {
        let text = std::fs::read_to_string(page).expect("the page");
        let at =
            text.find("<meta http-equiv=\"Content-Security-Policy\"").expect("the page forbids what it does not need");
        let end = at + text[at..].find('>').expect("the end of the policy") + 1;
        let copy = format!("{}{}<script>{MEASURE}</script>", &text[..at], &text[end..]);
        let file = self.profile.path().join("measured.html");
        std::fs::write(&file, copy).expect("the copy");
        let dom = self.run(size, &["--dump-dom".into()], &file);
        let json = dom.split("<script id=\"measured\" type=\"application/json\">").nth(1).expect("measures");
        serde_json::from_str(json.split("</script>").next().unwrap()).expect("JSON")
    }
}

const MEASURE: &str = r##"
  const channel = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); };
  const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const parse = text => text.match(/[\d.]+/g).map(Number);
  const background = node => { for (; node; node = node.parentElement) { const c = parse(getComputedStyle(node).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  let worst = { ratio: 99, text: "" };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), parent = walker.currentNode.parentElement;
    if (!text || parent.closest("script, svg")) continue;
    const a = light(parse(getComputedStyle(parent).color)), b = light(background(parent));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text };
  }
  const rows = id => [...document.querySelectorAll(`#${id} > tbody > tr`)].map(tr => [...tr.children].map(c => c.innerText.trim()));
  const measured = {
    verdict: document.querySelector("#verdict strong").innerText, findings: [...document.querySelectorAll("#findings li")].map(l => l.innerText),
    tables: rows("tables"), objectives: rows("objectives"), phases: rows("phases").length, drills: rows("drills"), signature: rows("signature"),
    failedSteps: rows("phases").filter(row => row.join(" ").includes("FAILED")), figures: [...document.querySelectorAll(".figures div")].map(d => d.innerText.split("\n")),
    copies: rows("copies"), steps: rows("steps"), checks: rows("checks"), backups: [...document.querySelectorAll("#backups tbody tr")].map(tr => [...tr.children].map(c => c.textContent)), sheets: rows("sheets"),
    width: [document.documentElement.scrollWidth, document.documentElement.clientWidth],
    boxes: document.querySelectorAll(".box").length,
    charts: [...document.querySelectorAll("svg")].map(s => [s.getAttribute("role"), s.getAttribute("aria-label"), s.getBoundingClientRect().width > 0]),
    headless: [...document.querySelectorAll("thead th:not([scope]), tbody th:not([scope])")].length,
    lang: document.documentElement.lang, headings: [...document.querySelectorAll("h1, h2, h3")].map(h => h.tagName), worst,
  };
  const out = document.createElement("script"); out.id = "measured"; out.type = "application/json";
  out.textContent = JSON.stringify(measured); document.body.append(out);
"##;

/// Runs a drill and gives its report and its page.
fn drilled(estate: &Estate, args: &[&str], folder: &Path) -> (Value, PathBuf) {
    let into = folder.to_str().unwrap();
    let mut all = vec!["--json", "drill", "--operator", "Ann of Finance", "--report-dir", into];
    all.extend(args);
    (estate.strongroom(&all).data(), folder.join("report.html"))
}

fn browser() -> Option<Browser> {
    let Some(program) = chromium() else {
        println!("skipped: there is no Chromium; scripts/test installs one");
        return None;
    };
    Some(Browser { program, profile: tempfile::tempdir().unwrap() })
}

fn number(cell: &Value) -> Option<u64> {
    cell.as_str().and_then(|text| text.replace(',', "").parse().ok())
}

#[test]
fn the_page_of_a_drill_tells_its_figures_in_a_browser() {
    let Some(browser) = browser() else { return };
    let estate = Estate::seeded();
    estate.strongroom(&["backup"]).ok();
    estate.strongroom(&["backup", "--tier", "weekly"]).ok();
    let folder = tempfile::tempdir().unwrap();
    drilled(&estate, &["--scenario", "table-loss"], folder.path());
    let (report, page) = drilled(&estate, &[], folder.path());

    // Desktop.
    let seen = browser.measure((1280, 900), &page);
    assert_eq!(seen["verdict"], "Passed: everything came back, in time");
    let shown = seen["tables"].as_array().unwrap();
    for table in report["tables"].as_array().unwrap() {
        let row = shown.iter().find(|row| row[0] == table["table"]).unwrap_or_else(|| panic!("{table}"));
        let figure = |cell: &Value| cell.as_str().unwrap().replace(',', "").parse::<u64>().unwrap();
        assert_eq!(
            (Some(figure(&row[1])), Some(figure(&row[2]))),
            (table["rows_before"].as_u64(), table["rows_after"].as_u64())
        );
        assert_eq!(row[3], "proven", "{row}");
    }
    // A total, to its last digit, is what the live data gives.
    let cost = estate.query(&format!("SELECT CAST(SUM(cost_usd) AS STRING) FROM `{PROJECT}.{DATASET}.fct_cost_daily`"));
    let row = shown.iter().find(|row| row[0] == "sum of cost_usd").expect("the total of the costs");
    assert_eq!(row[2].as_str().unwrap().replace(',', ""), cost[0][0].as_str().unwrap());
    assert_eq!(seen["objectives"].as_array().map(Vec::len), report["objectives"].as_array().map(Vec::len));
    assert_eq!(seen["phases"].as_u64(), report["phases"].as_array().map(|phases| phases.len() as u64));
    assert_eq!(seen["drills"][0][0], "Loss of one table");
    let by_hand = report["checklist"].as_array().unwrap().iter().filter(|item| item["state"] == "by_hand").count();
    assert_eq!(seen["boxes"], json!(by_hand));
    assert!(seen["signature"].to_string().contains("Ann of Finance"));
    assert!(seen["signature"].to_string().contains(report["backup"]["manifest_sha256"].as_str().unwrap()));

    for_everybody(&browser, &seen, &page, "drill-page", 15);
}

/// Every chart is told in words, every header says of what, contrast by WCAG AA; it fits desktop and phone, and prints.
fn for_everybody(browser: &Browser, seen: &Value, page: &Path, name: &str, at_least_charts: usize) {
    let charts = seen["charts"].as_array().unwrap();
    assert!(charts.len() > at_least_charts, "{}", charts.len());
    for chart in charts {
        assert!(
            chart[0] == "img" && chart[1].as_str().is_some_and(|label| !label.is_empty()) && chart[2] == true,
            "{chart}"
        );
    }
    assert_eq!((&seen["headless"], &seen["lang"], &seen["headings"][0]), (&json!(0), &json!("en"), &json!("H1")));

    // Kept for people to look at, beside the build.
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&shots).unwrap();
    for (name, size) in [("desktop", (1280, 3600)), ("phone", (390, 7200))] {
        let seen = browser.measure(size, page);
        let widths = (seen["width"][0].as_u64().unwrap(), seen["width"][1].as_u64().unwrap());
        assert!(widths.0 <= widths.1, "{name}: the page is {} wide in a window of {}", widths.0, widths.1);
        assert!(seen["worst"]["ratio"].as_f64().unwrap() >= 4.5, "{name}: {}", seen["worst"]);
        let file = shots.join(format!("{name}.png"));
        browser.run(size, &[format!("--screenshot={}", file.display())], page);
        assert!(std::fs::metadata(&file).unwrap().len() > 20_000, "{name}");
    }
    let print = shots.join("print.pdf");
    browser.run((1280, 900), &["--no-pdf-header-footer".into(), format!("--print-to-pdf={}", print.display())], page);
    assert!(std::fs::read(&print).unwrap().starts_with(b"%PDF"));
}

#[test]
fn the_page_of_a_failed_drill_says_what_differs() {
    let Some(browser) = browser() else { return };
    let mut estate = Estate::seeded();
    estate.strongroom(&["backup"]).ok();
    let folder = tempfile::tempdir().unwrap();
    // Somebody deletes a row of the scratch dataset before it is compared.
    let run = crate::drill::struck(&mut estate, "a row dropped", folder.path());
    assert!(matches!(run.code, 3 | 13), "{run:?}");
    let page = folder.path().join("report.html");
    let seen = browser.measure((1280, 900), &page);
    assert_eq!(seen["verdict"], "FAILED: not everything came back as it was");
    let findings = run.data()["findings"].clone();
    assert_eq!(seen["findings"], findings, "{findings:#}");
    let lost = seen["tables"].as_array().unwrap().iter().find(|row| row[0] == "dim_api_key_user").unwrap();
    assert_eq!((number(&lost[1]), number(&lost[2]), &lost[3]), (Some(37), Some(36), &json!("NO")), "{lost}");
    for_everybody(&browser, &seen, &page, "failed-drill-page", 10);

    // A step fails: the drill does not finish, and the page says at which.
    let folder = tempfile::tempdir().unwrap();
    let proxy = estate.block_on(Proxy::start(estate.sandbox.endpoint(), |method, path| {
        let compared = method == "GET" && path.contains("_drill_") && path.contains("/tables/");
        if compared { Action::Answer(403, None) } else { Action::Pass }
    }));
    estate.endpoint = Some(proxy.endpoint().into());
    let run = estate.strongroom(&["--json", "drill", "--report-dir", folder.path().to_str().unwrap()]);
    assert_eq!(run.code, 14, "{run:?}");
    let seen = browser.measure((1280, 900), &folder.path().join("report.html"));
    assert_eq!(seen["verdict"], "NOT FINISHED: a step failed, what was begun was taken back");
    assert_eq!(seen["failedSteps"][0][0], "compare", "{}", seen["failedSteps"]);
}

#[test]
fn the_page_of_a_backup_tells_its_figures_in_a_browser() {
    let estate = crate::drill::ready_for_everything();
    estate.strongroom(&["backup"]).ok();
    estate.query(&format!("DELETE FROM `{PROJECT}.{DATASET}.dim_model_price` WHERE model = (SELECT MIN(model) FROM `{PROJECT}.{DATASET}.dim_model_price`)"));
    let manifest = estate.json(&["backup"]);
    let name = manifest["name"].as_str().unwrap();

    // The document, by name and as the latest; its schema is checked by somebody else's validator.
    let folder = tempfile::tempdir().unwrap();
    let (document, page) = (folder.path().join("report.json"), folder.path().join("report.html"));
    let write = |format: &str, file: &Path, of: &[&str]| {
        let mut args = vec!["report", "--format", format, "--output", file.to_str().unwrap()];
        args.extend(of);
        estate.strongroom(&args).ok();
    };
    write("json", &document, &[name]);
    write("html", &page, &["--backup"]);
    crate::drill::follows_the_schema(&document, "backup-report.v1.json");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&document).unwrap()).unwrap();
    assert_eq!((&report["backup"]["name"], &report["findings"]), (&json!(name), &json!([])));
    assert_eq!(report["copies"].as_array().unwrap().len(), 2);
    let text = estate.strongroom(&["report", name]).ok().stdout;
    for said in [name, "gs://demo-project-backup-copy", "not verified yet", "validation at the cut", "passed"] {
        assert!(text.contains(said), "'{said}' is missing in:\n{text}");
    }
    let unknown = estate.strongroom(&["report", "--backup", "no-such-backup"]);
    assert_eq!(unknown.code, 10, "{unknown:?}");

    let Some(browser) = browser() else { return };
    let seen = browser.measure((1280, 900), &page);
    assert_eq!(seen["verdict"], "Whole: every object lies where it should");
    let shown = seen["tables"].as_array().unwrap();
    let records = manifest["sources"][0]["tables"].as_array().unwrap();
    for record in records {
        let row = shown.iter().find(|row| {
            row[0]
                .as_str()
                .is_some_and(|name| name.ends_with(record["table"].as_str().unwrap().rsplit('.').next().unwrap()))
        });
        let row = row.unwrap_or_else(|| panic!("{record}"));
        assert_eq!(number(&row[1]), record["row_count"].as_u64(), "{row}");
        let before = number(&row[2]).unwrap();
        if row[0].as_str().unwrap().contains("dim_model_price") {
            assert!(before > number(&row[1]).unwrap(), "{row}");
        } else {
            assert_eq!(number(&row[1]), Some(before), "{row}");
        }
        assert_eq!(row[4], "proven", "{row}");
    }
    let cost = estate.query(&format!("SELECT CAST(SUM(cost_usd) AS STRING) FROM `{PROJECT}.{DATASET}.fct_cost_daily`"));
    let row = shown.iter().find(|row| row[0] == "sum of cost_usd").expect("the total of the costs");
    assert_eq!(row[1].as_str().unwrap().replace(',', ""), cost[0][0].as_str().unwrap());
    assert_eq!(seen["steps"].as_array().map(Vec::len), manifest["timings"].as_array().map(Vec::len));
    assert_eq!(seen["checks"].as_array().map(Vec::len), manifest["validation"].as_array().map(Vec::len));
    assert_eq!(seen["backups"].as_array().map(Vec::len), Some(2), "{}", seen["backups"]);
    assert_eq!(seen["sheets"].as_array().map(Vec::len), Some(1));
    let objects = report["copies"][0]["objects"].as_u64().unwrap();
    for copy in seen["copies"].as_array().unwrap() {
        assert_eq!((&copy[1], &copy[2]), (&json!(format!("{objects} of {objects}")), &json!("yes")), "{copy}");
    }
    assert!(seen["signature"].to_string().contains(report["backup"]["manifest_sha256"].as_str().unwrap()));
    for_everybody(&browser, &seen, &page, "backup-page", 8);

    // An object of the copy is lost: the page says so, and that the backup is whole all the same.
    let key = manifest["sources"][0]["tables"][0]["objects"][0]["key"].as_str().unwrap().replace('/', "%2F");
    estate.delete(&format!("/storage/v1/b/demo-project-backup-copy/o/{key}"));
    write("html", &page, &["--backup"]);
    let seen = browser.measure((1280, 900), &page);
    assert_eq!(seen["verdict"], "Whole, but something asks for attention");
    let finding = seen["findings"][0].as_str().unwrap();
    assert!(finding.contains("demo-project-backup-copy") && finding.contains("1 of "), "{finding}");
    assert_eq!(seen["copies"][1][2], "NO");
}
