//! The page of a drill as a browser shows it: its figures are read, it fits a phone, it prints, and its colours can be
//! read. Without a Chromium the tests say so and pass; `scripts/test` installs one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::estate::{DATASET, Estate, PROJECT};

/// The browser: named by STRONGROOM_CHROMIUM, or found by its usual names.
fn chromium() -> Option<PathBuf> {
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
  const rows = id => [...document.querySelectorAll(`#${id} tbody tr`)].map(tr => [...tr.children].map(c => c.innerText.trim()));
  const measured = {
    verdict: document.querySelector("#verdict strong").innerText, findings: [...document.querySelectorAll("#findings li")].map(l => l.innerText),
    tables: rows("tables"), objectives: rows("objectives"), phases: rows("phases").length, drills: rows("drills"), signature: rows("signature"),
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

#[test]
fn the_page_of_a_drill_tells_its_figures_in_a_browser() {
    let Some(program) = chromium() else {
        println!("skipped: there is no Chromium; scripts/test installs one");
        return;
    };
    let browser = Browser { program, profile: tempfile::tempdir().unwrap() };
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

    // For everybody: every chart is told in words, every header says of what, contrast by WCAG AA.
    let charts = seen["charts"].as_array().unwrap();
    assert!(charts.len() > 15, "{}", charts.len());
    for chart in charts {
        assert!(
            chart[0] == "img" && chart[1].as_str().is_some_and(|label| !label.is_empty()) && chart[2] == true,
            "{chart}"
        );
    }
    assert_eq!((&seen["headless"], &seen["lang"], &seen["headings"][0]), (&json!(0), &json!("en"), &json!("H1")));

    // Kept for people to look at, beside the build.
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("drill-page");
    std::fs::create_dir_all(&shots).unwrap();
    for (name, size) in [("desktop", (1280, 3600)), ("phone", (390, 7200))] {
        let seen = browser.measure(size, &page);
        let widths = (seen["width"][0].as_u64().unwrap(), seen["width"][1].as_u64().unwrap());
        assert!(widths.0 <= widths.1, "{name}: the page is {} wide in a window of {}", widths.0, widths.1);
        assert!(seen["worst"]["ratio"].as_f64().unwrap() >= 4.5, "{name}: {}", seen["worst"]);
        let file = shots.join(format!("{name}.png"));
        browser.run(size, &[format!("--screenshot={}", file.display())], &page);
        assert!(std::fs::metadata(&file).unwrap().len() > 20_000, "{name}");
    }
    let print = shots.join("print.pdf");
    browser.run((1280, 900), &["--no-pdf-header-footer".into(), format!("--print-to-pdf={}", print.display())], &page);
    assert!(std::fs::read(&print).unwrap().starts_with(b"%PDF"));
}
