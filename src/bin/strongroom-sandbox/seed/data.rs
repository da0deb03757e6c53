//! The rows of the `ai_usage_analytics` profile: a real trace of requests and a real price list, with the people, keys
//! and models that the trace lacks made up from a fixed seed. samples/README.md says which is which.
//!
//! The same rows on every run and machine. Knows nothing of how rows get into a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

const TRACES: [(&str, &[u8]); 2] = [
    ("code", include_bytes!("../../../../samples/azure-llm-trace-2023/AzureLLMInferenceTrace_code.csv.gz")),
    ("conv", include_bytes!("../../../../samples/azure-llm-trace-2023/AzureLLMInferenceTrace_conv.first-half.csv.gz")),
];
const PRICES: &[u8] = include_bytes!("../../../../samples/llm-prices/20260430T144345_4ba92df.json.gz");
/// The version of the price list, as it is written into rows.
const PRICE_LIST: &str = "2026-04-30";

/// The first day of the dataset, 2026-05-10, in days since 1970-01-01.
const FIRST_DAY: i64 = 20_583;
const DAY_US: i64 = 86_400_000_000;

/// Platform, number of keys, the traces whose requests it serves, its models.
const PLATFORMS: [(&str, usize, &[&str], &[&str]); 4] = [
    ("anthropic", 12, &["code", "conv"], &["claude-sonnet-4-6", "claude-haiku-4-5", "claude-opus-4-6"]),
    ("cursor", 12, &["code"], &["claude-sonnet-4-6", "gpt-5.3-codex"]),
    ("google", 6, &["conv"], &["gemini-2.5-flash", "gemini-2.5-pro"]),
    ("openai", 10, &["conv"], &["gpt-5-mini", "gpt-5.2", "gpt-4.1-mini"]),
];
/// Team and cost centre; a cost centre is text because its leading zero matters.
const TEAMS: [(&str, &str); 6] = [
    ("data-science", "0410"),
    ("mobile", "0420"),
    ("payments", "0430"),
    ("platform", "0440"),
    ("search", "0450"),
    ("support", "0460"),
];
const PEOPLE: usize = 24;
/// Keys that nobody owns, by their place among all keys.
const ORPHANS: [usize; 3] = [11, 22, 38];
const TAGS: [&str; 4] = ["batch", "experiment", "interactive", "production"];
const REGIONS: [&str; 3] = ["europe-west4", "us-central1", "us-east1"];

/// All rows of the profile.
pub struct Profile {
    /// Table name and its rows as JSON Lines, in the order of loading.
    pub tables: Vec<(&'static str, String, usize)>,
    /// The `mappings` tab of the spreadsheet, header first.
    pub sheet: Vec<Vec<Value>>,
}

/// Builds the profile.
///
/// # Errors
/// When an embedded sample cannot be read.
pub fn profile() -> Result<Profile, String> {
    let prices = prices()?;
    let keys = keys();
    let requests = requests(&keys)?;
    let usage = usage(&requests);
    let tables = vec![
        lines("dim_model_price", prices.iter().map(|(model, price)| price.row(model))),
        lines("dim_api_key_user", keys.iter().filter_map(mapping_row)),
        lines("stg_llm_requests", requests.iter().enumerate().map(|(n, request)| request.row(n, &keys))),
        lines("fct_usage_daily", usage.iter().map(|(of, sums)| usage_row(of, sums, &keys))),
        lines(
            "fct_cost_daily",
            usage.iter().map(|(of, sums)| cost_row(of, sums, &keys, &prices)).collect::<Result<Vec<_>, _>>()?,
        ),
    ];
    Ok(Profile { tables, sheet: sheet(&keys) })
}

fn lines(table: &'static str, rows: impl IntoIterator<Item = Value>) -> (&'static str, String, usize) {
    let (mut text, mut count) = (String::new(), 0);
    for row in rows {
        let _ = writeln!(text, "{row}"); // writing to a String cannot fail
        count += 1;
    }
    (table, text, count)
}

// ------------------------------------------------------------------------------------------------------- prices

struct Price {
    provider: Option<String>,
    mode: Option<String>,
    /// Billionths of a dollar per token, which is exact for every price in the list.
    input_nano_usd: Option<i64>,
    output_nano_usd: Option<i64>,
    max_input_tokens: Option<i64>,
}

impl Price {
    fn row(&self, model: &str) -> Value {
        json!({
            "model": model,
            "provider": self.provider,
            "mode": self.mode,
            "input_usd_per_token": self.input_nano_usd.map(nano),
            "output_usd_per_token": self.output_nano_usd.map(nano),
            "max_input_tokens": self.max_input_tokens,
            "price_list": PRICE_LIST,
        })
    }
}

fn prices() -> Result<BTreeMap<String, Price>, String> {
    let list: BTreeMap<String, Value> =
        serde_json::from_str(&unzip(PRICES)?).map_err(|e| format!("the price list is not JSON: {e}"))?;
    let text = |v: &Value| v.as_str().map(str::to_string);
    Ok(list
        .into_iter()
        .map(|(model, entry)| {
            let price = Price {
                provider: text(&entry["litellm_provider"]),
                mode: text(&entry["mode"]),
                input_nano_usd: nano_usd(&entry["input_cost_per_token"]),
                output_nano_usd: nano_usd(&entry["output_cost_per_token"]),
                max_input_tokens: entry["max_input_tokens"].as_i64(),
            };
            (model, price)
        })
        .collect())
}

/// Billionths of a dollar; the list writes `5e-08`.
fn nano_usd(price: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "prices per token are far below a dollar")]
    price.as_f64().map(|usd| (usd * 1e9).round() as i64)
}

/// Billionths as a decimal number's text.
fn nano(value: i64) -> String {
    format!("{}.{:09}", value / 1_000_000_000, value % 1_000_000_000)
}

// ---------------------------------------------------------------------------------------------- people and keys

struct Key {
    id: String,
    platform: usize,
    /// Person and team, unless nobody owns the key.
    owner: Option<(usize, usize)>,
    valid_from: String,
    valid_to: Option<String>,
    /// How much of its platform's traffic it carries, relative to the others.
    weight: u64,
    usual_model: usize,
}

fn keys() -> Vec<Key> {
    let mut dice = Dice(0x005f_7072_6f66_696c);
    let mut keys = Vec::new();
    for (platform, (name, count, _, models)) in PLATFORMS.iter().enumerate() {
        for n in 0..*count {
            let person = dice.below(PEOPLE);
            keys.push(Key {
                id: format!("key-{name}-{:02}", n + 1),
                platform,
                owner: (!ORPHANS.contains(&keys.len())).then_some((person, person % TEAMS.len())),
                valid_from: date(FIRST_DAY - 30 - dice.number(300)),
                valid_to: (dice.below(12) == 0).then(|| date(FIRST_DAY + 60 + dice.number(30))),
                weight: 100 / (dice.next() % 10 + 1),
                usual_model: dice.below(models.len()),
            });
        }
    }
    keys
}

fn user_id(person: usize) -> String {
    format!("u-{:03}", person + 1)
}

fn mail(person: usize) -> String {
    format!("person-{:03}@example.com", person + 1)
}

fn mapping_row(key: &Key) -> Option<Value> {
    let (person, team) = key.owner?;
    Some(json!({
        "api_key_id": key.id,
        "platform": PLATFORMS[key.platform].0,
        "user_id": user_id(person),
        "user_email": mail(person),
        "team": TEAMS[team].0,
        "cost_center": TEAMS[team].1,
        "valid_from": key.valid_from,
        "valid_to": key.valid_to,
        "is_active": key.valid_to.is_none(),
    }))
}

/// The sheet that people keep by hand: text that looks like numbers, numbers, truth values, blanks, quotes, line breaks.
fn sheet(keys: &[Key]) -> Vec<Vec<Value>> {
    let header = ["api_key_id", "platform", "user_email", "team", "cost_center", "monthly_limit_usd", "active", "note"];
    let mut rows = vec![header.iter().map(|h| json!(h)).collect::<Vec<_>>()];
    for (n, key) in keys.iter().enumerate() {
        let Some((person, team)) = key.owner else { continue };
        let note = match n % 9 {
            0 => "",
            1 => "shared, see \"handbook\"",
            2 => "asked for more\n2026-06-01",
            3 => "Größe prüfen ✓",
            4 => "=not a formula",
            _ => "ok",
        };
        rows.push(vec![
            json!(key.id),
            json!(PLATFORMS[key.platform].0),
            json!(mail(person)),
            json!(TEAMS[team].0),
            json!(TEAMS[team].1),
            if n % 4 == 0 { json!(250.75) } else { json!(500 + n) },
            json!(key.valid_to.is_none()),
            json!(note),
        ]);
    }
    rows
}

// ------------------------------------------------------------------------------------------------ requests, sums

struct Request {
    at_us: i64,
    trace: &'static str,
    trace_timestamp: String,
    key: usize,
    model: &'static str,
    input_tokens: i64,
    output_tokens: i64,
    streaming: Option<bool>,
    tags: Vec<&'static str>,
    /// Minor version and region.
    client: Option<(u64, &'static str)>,
}

impl Request {
    fn row(&self, number: usize, keys: &[Key]) -> Value {
        let client = self.client.map(|(minor, region)| {
            json!({ "name": format!("{}-client", self.trace), "version": format!("1.{minor}.0"), "region": region })
        });
        json!({
            "request_id": format!("req-{:06}", number + 1),
            "requested_at": timestamp(self.at_us),
            "trace": self.trace,
            "trace_timestamp": self.trace_timestamp,
            "platform": PLATFORMS[keys[self.key].platform].0,
            "model": self.model,
            "api_key_id": keys[self.key].id,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "is_streaming": self.streaming,
            "tags": self.tags,
            "client": client,
            "phases": [
                { "phase": "prompt", "tokens": self.input_tokens },
                { "phase": "generation", "tokens": self.output_tokens },
            ],
        })
    }
}

/// Reads the traces, lays their minutes out over days, and rolls who asked which model.
fn requests(keys: &[Key]) -> Result<Vec<Request>, String> {
    let mut parsed = Vec::new();
    for (trace, zipped) in TRACES {
        for line in unzip(zipped)?.lines().skip(1) {
            let request = trace_line(line).ok_or_else(|| format!("trace {trace}: cannot read '{line}'"))?;
            parsed.push((trace, request));
        }
    }
    let mut days: BTreeMap<i64, i64> = parsed.iter().map(|(_, r)| (r.minute, 0)).collect();
    for (n, day) in (FIRST_DAY..).zip(days.values_mut()) {
        *day = n;
    }
    parsed.sort_by_key(|(trace, r)| (r.minute, r.ticks, *trace));

    let mut dice = Dice(0x6169_5f75_7361_6765);
    Ok(parsed
        .into_iter()
        .map(|(trace, r)| {
            let key = choose_key(keys, trace, &mut dice);
            let models = PLATFORMS[keys[key].platform].3;
            let model = if dice.below(5) == 0 { dice.below(models.len()) } else { keys[key].usual_model };
            Request {
                // A minute becomes a day of 1,440 minutes; a tick is a tenth of a microsecond.
                at_us: days[&r.minute] * DAY_US + r.ticks * 1440 / 10,
                trace,
                trace_timestamp: r.written,
                key,
                model: models[model],
                input_tokens: r.input_tokens,
                output_tokens: r.output_tokens,
                streaming: (dice.below(10) != 0).then_some(trace == "conv"),
                tags: TAGS.into_iter().filter(|_| dice.below(4) == 0).collect(),
                client: (dice.below(20) != 0).then(|| (dice.next() % 9, REGIONS[dice.below(REGIONS.len())])),
            }
        })
        .collect())
}

struct TraceLine {
    minute: i64,
    /// Ten-millionths of a second since the minute began.
    ticks: i64,
    /// The source's wall clock, to the microsecond.
    written: String,
    input_tokens: i64,
    output_tokens: i64,
}

/// `2023-11-16 18:17:03.9799600,4808,10`
fn trace_line(line: &str) -> Option<TraceLine> {
    let mut fields = line.trim_end().split(',');
    let written = fields.next()?;
    let (hour, minute) = (written.get(11..13)?.parse::<i64>().ok()?, written.get(14..16)?.parse::<i64>().ok()?);
    let (seconds, fraction) = (written.get(17..19)?.parse::<i64>().ok()?, written.get(20..27)?.parse::<i64>().ok()?);
    Some(TraceLine {
        minute: hour * 60 + minute,
        ticks: seconds * 10_000_000 + fraction,
        written: written.get(..26)?.to_string(),
        input_tokens: fields.next()?.parse().ok()?,
        output_tokens: fields.next()?.parse().ok()?,
    })
}

fn choose_key(keys: &[Key], trace: &str, dice: &mut Dice) -> usize {
    let serves = |key: &&Key| PLATFORMS[key.platform].2.contains(&trace);
    let total: u64 = keys.iter().filter(serves).map(|key| key.weight).sum();
    let mut left = dice.next() % total.max(1);
    for (n, key) in keys.iter().enumerate().filter(|(_, key)| serves(key)) {
        if left < key.weight {
            return n;
        }
        left -= key.weight;
    }
    0
}

#[derive(Default)]
struct Sums {
    requests: i64,
    input_tokens: i64,
    output_tokens: i64,
    first_us: i64,
    last_us: i64,
}

/// Day, key, model.
type UsageKey = (i64, usize, &'static str);

fn usage(requests: &[Request]) -> BTreeMap<UsageKey, Sums> {
    let mut usage: BTreeMap<UsageKey, Sums> = BTreeMap::new();
    for request in requests {
        let sums = usage.entry((request.at_us.div_euclid(DAY_US), request.key, request.model)).or_default();
        if sums.requests == 0 {
            sums.first_us = request.at_us;
        }
        sums.last_us = request.at_us; // requests are sorted by time
        sums.requests += 1;
        sums.input_tokens += request.input_tokens;
        sums.output_tokens += request.output_tokens;
    }
    usage
}

fn usage_row((day, key, model): &UsageKey, sums: &Sums, keys: &[Key]) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "a mean of token counts far below 2^53")]
    let mean = sums.input_tokens as f64 / sums.requests as f64;
    json!({
        "usage_date": date(*day),
        "platform": PLATFORMS[keys[*key].platform].0,
        "model": model,
        "api_key_id": keys[*key].id,
        "user_id": keys[*key].owner.map(|(person, _)| user_id(person)),
        "requests": sums.requests,
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "mean_input_tokens": mean,
        "first_request_at": timestamp(sums.first_us),
        "last_request_at": timestamp(sums.last_us),
    })
}

fn cost_row(
    (day, key, model): &UsageKey,
    sums: &Sums,
    keys: &[Key],
    prices: &BTreeMap<String, Price>,
) -> Result<Value, String> {
    let price = prices.get(*model).ok_or_else(|| format!("the price list does not know {model}"))?;
    let (Some(input), Some(output)) = (price.input_nano_usd, price.output_nano_usd) else {
        return Err(format!("the price list names no price for {model}"));
    };
    let (input, output) = (input * sums.input_tokens, output * sums.output_tokens);
    Ok(json!({
        "usage_date": date(*day),
        "platform": PLATFORMS[keys[*key].platform].0,
        "model": model,
        "api_key_id": keys[*key].id,
        "user_id": keys[*key].owner.map(|(person, _)| user_id(person)),
        "input_cost_usd": nano(input),
        "output_cost_usd": nano(output),
        "cost_usd": nano(input + output),
        "price_list": PRICE_LIST,
    }))
}

// ------------------------------------------------------------------------------------------------------ helpers

fn unzip(bytes: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).map_err(|e| format!("a sample is damaged: {e}"))?;
    Ok(text)
}

/// `YYYY-MM-DD` of days since 1970-01-01.
fn date(days: i64) -> String {
    timestamp(days * DAY_US)[..10].to_string()
}

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`
fn timestamp(us: i64) -> String {
    // Only times of 2025 and 2026 come here.
    let at = jiff::Timestamp::from_microsecond(us).unwrap_or_default();
    format!("{at:.6}")
}

/// SplitMix64: what the `rand` crate rolls may change between its versions, sample data must not.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the rest of a division by a usize fits one")]
        let rest = (self.next() % bound.max(1) as u64) as usize;
        rest
    }

    fn number(&mut self, bound: i64) -> i64 {
        (self.next() >> 1).cast_signed() % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn rows(table: &str) -> Vec<Value> {
        let profile = profile().unwrap();
        let (_, text, count) = profile.tables.iter().find(|(name, ..)| *name == table).unwrap();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), *count);
        rows
    }

    fn sum(rows: &[Value], column: &str) -> i64 {
        rows.iter().map(|row| row[column].as_i64().unwrap()).sum()
    }

    #[test]
    fn the_whole_trace_is_there_and_the_days_have_no_gap() {
        let requests = rows("stg_llm_requests");
        assert_eq!(requests.len(), 8819 + 9683);
        let days: BTreeSet<&str> = requests.iter().map(|r| &r["requested_at"].as_str().unwrap()[..10]).collect();
        assert_eq!(days.len(), 52);
        assert_eq!((*days.first().unwrap(), *days.last().unwrap()), ("2026-05-10", "2026-06-30"));
        let first = requests.iter().find(|r| r["trace_timestamp"] == "2023-11-16 18:17:03.979960").unwrap();
        assert_eq!((first["input_tokens"].as_i64(), first["output_tokens"].as_i64()), (Some(4808), Some(10)));
        // 3.97996 s of a minute that lasts a day, the third of the trace.
        assert_eq!(first["requested_at"], "2026-05-12T01:35:31.142400Z");
    }

    #[test]
    fn sums_agree_with_the_trace() {
        let (requests, usage) = (rows("stg_llm_requests"), rows("fct_usage_daily"));
        assert_eq!(sum(&usage, "requests"), 18_502);
        for column in ["input_tokens", "output_tokens"] {
            assert_eq!(sum(&usage, column), sum(&requests, column));
        }
    }

    #[test]
    fn costs_are_tokens_times_prices_to_the_last_digit() {
        let (usage, cost) = (rows("fct_usage_daily"), rows("fct_cost_daily"));
        assert_eq!(usage.len(), cost.len());
        let (u, c) = usage.iter().zip(&cost).find(|(u, _)| u["model"] == "claude-haiku-4-5").unwrap();
        let (input, output) = (u["input_tokens"].as_i64().unwrap() * 1000, u["output_tokens"].as_i64().unwrap() * 5000);
        assert_eq!(c["cost_usd"], nano(input + output));
        assert_eq!(nano(1_234_567_890), "1.234567890");
        assert_eq!(nano_usd(&json!(9.54e-07)), Some(954));
    }

    #[test]
    fn some_usage_has_no_owner_and_most_has() {
        let usage = rows("fct_usage_daily");
        let nobody = usage.iter().filter(|row| row["user_id"].is_null()).map(|row| row["requests"].as_i64().unwrap());
        let share = nobody.sum::<i64>() as f64 / 18_502.0;
        assert!(share > 0.01 && share < 0.2, "{share}");
        assert_eq!(rows("dim_api_key_user").len(), 40 - ORPHANS.len());
    }

    #[test]
    fn two_runs_give_the_same_rows() {
        let (one, two) = (profile().unwrap(), profile().unwrap());
        assert_eq!(one.tables, two.tables);
        assert_eq!(one.sheet, two.sheet);
        assert!(one.sheet.iter().all(|row| row.len() == one.sheet[0].len()));
    }
}
