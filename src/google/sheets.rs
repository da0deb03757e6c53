//! Google Sheets v4, by REST: Google has no official Rust crate for it. Values are what the API calls them: unformatted,
//! dates as serial numbers (days since 1899-12-30). Does not know what the cells mean.

use serde_json::{Value, json};

use super::error::Fault;
use super::rest::{Call, Rest};
use super::retry::Effect;
use crate::model::Failure;

pub(crate) const HOST: &str = "https://sheets.googleapis.com";

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Sheets {
    rest: Rest,
}

/// A spreadsheet without its cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Spreadsheet {
    pub id: String,
    pub title: String,
    pub locale: String,
    pub time_zone: String,
    /// In their order.
    pub sheets: Vec<Sheet>,
    pub url: String,
}

/// One tab.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    pub sheet_id: i64,
    pub title: String,
    pub index: i64,
    /// `GRID`, `OBJECT` (a chart), `DATA_SOURCE`.
    pub kind: String,
    /// 0 for a tab that is no grid.
    pub row_count: u32,
    pub column_count: u32,
    pub hidden: bool,
}

/// How cells are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Render {
    /// Numbers as numbers, dates as serial numbers, formulas' results.
    Values,
    /// As typed in: formulas as formulas.
    Formulas,
}

/// How cells are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// As they are: a text that begins with `=` stays a text.
    Raw,
    /// As if typed in: formulas are formulas, `1/2` is a date.
    UserEntered,
}

impl Sheets {
    pub(crate) fn new(rest: Rest) -> Self {
        Self { rest }
    }

    /// The spreadsheet's properties and tabs.
    ///
    /// # Errors
    /// `NotFound`, `Denied` (share it with the service account), and as mapped by `error.rs`.
    pub async fn get(&self, id: &str) -> Result<Spreadsheet, Failure> {
        let about = object(id);
        let call = Call::get(&about, &["v4", "spreadsheets", id])
            .query("includeGridData", false)
            .query("fields", "spreadsheetId,spreadsheetUrl,properties(title,locale,timeZone),sheets(properties)");
        Spreadsheet::from_resource(&about, &self.rest.call(&call).await?)
    }

    /// The cells of a range in A1 notation, by row. Empty cells at the end of a row and empty rows at the end are left
    /// out by the service. The answer is bounded at 64 MiB: read long sheets in parts.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a range that is none; and as mapped by `error.rs`.
    pub async fn read_values(&self, id: &str, range: &str, render: Render) -> Result<Vec<Vec<Value>>, Failure> {
        let about = format!("{} range {range}", object(id));
        let option = match render {
            Render::Values => "UNFORMATTED_VALUE",
            Render::Formulas => "FORMULA",
        };
        let call = Call::get(&about, &["v4", "spreadsheets", id, "values", range])
            .query("majorDimension", "ROWS")
            .query("valueRenderOption", option)
            .query("dateTimeRenderOption", "SERIAL_NUMBER");
        let mut answer = self.rest.call(&call).await?;
        let rows = match answer.get_mut("values").map(Value::take) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(rows)) => rows,
            Some(_) => return Err(malformed(&about, "values are no array")),
        };
        rows.into_iter()
            .map(|row| match row {
                Value::Array(cells) => Ok(cells),
                _ => Err(malformed(&about, "a row is no array")),
            })
            .collect()
    }

    /// Writes cells from the range's first cell on; `Null` leaves a cell as it is, `""` empties it. Answers how many
    /// cells were written.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn write_values(&self, id: &str, range: &str, rows: &[Vec<Value>], input: Input) -> Result<u64, Failure> {
        let about = format!("{} range {range}", object(id));
        let option = match input {
            Input::Raw => "RAW",
            Input::UserEntered => "USER_ENTERED",
        };
        let body = json!({"range": range, "majorDimension": "ROWS", "values": rows});
        let call =
            Call::put(&about, &["v4", "spreadsheets", id, "values", range], body).query("valueInputOption", option);
        let answer = self.rest.call(&call).await?;
        Ok(answer.get("updatedCells").and_then(Value::as_u64).unwrap_or_default())
    }

    /// Empties the cells of a range; formats stay.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn clear_values(&self, id: &str, range: &str) -> Result<(), Failure> {
        let about = format!("{} range {range}", object(id));
        let last = format!("{range}:clear");
        let call = Call::post(about, &["v4", "spreadsheets", id, "values", &last], Effect::Idempotent, json!({}));
        self.rest.call(&call).await.map(drop)
    }

    /// Adds a tab of this size.
    ///
    /// # Errors
    /// `Invalid` when there is one of this title, and as mapped by `error.rs`.
    pub async fn add_sheet(&self, id: &str, title: &str, row_count: u32, column_count: u32) -> Result<Sheet, Failure> {
        let about = format!("{} tab {title}", object(id));
        let grid = json!({"rowCount": row_count.max(1), "columnCount": column_count.max(1)});
        let request = json!({"addSheet": {"properties": {"title": title, "gridProperties": grid}}});
        let last = format!("{id}:batchUpdate");
        let body = json!({"requests": [request]});
        let call = Call::post(&about, &["v4", "spreadsheets", &last], Effect::Idempotent, body);
        // Titles are unique: a repeat of a call that worked is refused.
        let refused = |fault: &Fault| matches!(fault.failure, Failure::Invalid { .. } | Failure::Exists { .. });
        if let Some(answer) = self.rest.create_where(&call, refused).await? {
            let properties = answer.pointer("/replies/0/addSheet/properties").unwrap_or(&Value::Null);
            return Sheet::from_properties(properties).ok_or_else(|| malformed(&about, "no properties of the new tab"));
        }
        // After a lost reply: a tab of this title that has the size asked for is our own work.
        let own = |tab: &Sheet| {
            tab.title == title && (tab.row_count, tab.column_count) == (row_count.max(1), column_count.max(1))
        };
        let message = "there is a tab of this title that differs from what was sent".to_string();
        self.get(id).await?.sheets.into_iter().find(own).ok_or(Failure::Unknown { object: about, message })
    }

    /// Sets the size of a tab's grid; what lies outside is lost.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn resize_sheet(
        &self,
        id: &str,
        sheet_id: i64,
        row_count: u32,
        column_count: u32,
    ) -> Result<(), Failure> {
        let request = json!({"updateSheetProperties": {
            "properties": {"sheetId": sheet_id,
                "gridProperties": {"rowCount": row_count.max(1), "columnCount": column_count.max(1)}},
            "fields": "gridProperties(rowCount,columnCount)"}});
        let about = format!("{} tab #{sheet_id}", object(id));
        self.batch(id, &about, json!([request]), Effect::Idempotent).await.map(drop)
    }

    /// Removes a tab with all that is in it.
    ///
    /// # Errors
    /// `Invalid` when there is none of this id; and as mapped by `error.rs`.
    pub async fn delete_sheet(&self, id: &str, sheet_id: i64) -> Result<(), Failure> {
        let about = format!("{} tab #{sheet_id}", object(id));
        let request = json!({"deleteSheet": {"sheetId": sheet_id}});
        self.batch(id, &about, json!([request]), Effect::Idempotent).await.map(drop)
    }

    /// Creates a spreadsheet with these tabs.
    ///
    /// # Errors
    /// `Unknown` when no answer came; and as mapped by `error.rs`.
    pub async fn create(&self, title: &str, tabs: &[&str]) -> Result<Spreadsheet, Failure> {
        let about = format!("new spreadsheet '{title}'");
        let sheets: Vec<_> = tabs.iter().map(|tab| json!({"properties": {"title": tab}})).collect();
        let mut body = json!({"properties": {"title": title}});
        if !sheets.is_empty() {
            body["sheets"] = json!(sheets);
        }
        let answer = self.rest.call(&Call::post(&about, &["v4", "spreadsheets"], Effect::Once, body)).await?;
        Spreadsheet::from_resource(&about, &answer)
    }

    async fn batch(&self, id: &str, about: &str, requests: Value, effect: Effect) -> Result<Value, Failure> {
        let last = format!("{id}:batchUpdate");
        self.rest.call(&Call::post(about, &["v4", "spreadsheets", &last], effect, json!({"requests": requests}))).await
    }
}

/// A tab's title in A1 notation, quoted: `'it''s'`; with cells: `'it''s'!A1:B2`.
pub fn a1(sheet: &str, cells: Option<&str>) -> String {
    let quoted = format!("'{}'", sheet.replace('\'', "''"));
    cells.map_or_else(|| quoted.clone(), |cells| format!("{quoted}!{cells}"))
}

impl Spreadsheet {
    fn from_resource(about: &str, resource: &Value) -> Result<Self, Failure> {
        let text = |pointer: &str| resource.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string();
        let tabs = resource.get("sheets").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut sheets = tabs
            .iter()
            .map(|tab| {
                Sheet::from_properties(&tab["properties"]).ok_or_else(|| malformed(about, "a tab without properties"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        sheets.sort_by_key(|sheet| sheet.index);
        let id = text("/spreadsheetId");
        if id.is_empty() {
            return Err(malformed(about, "no spreadsheetId"));
        }
        Ok(Self {
            id,
            title: text("/properties/title"),
            locale: text("/properties/locale"),
            time_zone: text("/properties/timeZone"),
            sheets,
            url: text("/spreadsheetUrl"),
        })
    }
}

impl Sheet {
    fn from_properties(properties: &Value) -> Option<Self> {
        let number = |pointer: &str| properties.pointer(pointer).and_then(Value::as_i64);
        let size = |pointer: &str| number(pointer).and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
        Some(Self {
            title: properties.get("title")?.as_str()?.to_string(),
            // Zero is left out by some servers.
            sheet_id: number("/sheetId").unwrap_or_default(),
            index: number("/index").unwrap_or_default(),
            kind: properties.get("sheetType").and_then(Value::as_str).unwrap_or("GRID").to_string(),
            row_count: size("/gridProperties/rowCount"),
            column_count: size("/gridProperties/columnCount"),
            hidden: properties.get("hidden").and_then(Value::as_bool).unwrap_or_default(),
        })
    }
}

fn object(id: &str) -> String {
    format!("spreadsheet {id}")
}

fn malformed(object: &str, what: &str) -> Failure {
    Failure::Corrupt { object: object.into(), message: format!("unreadable answer: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_quoted() {
        assert_eq!(a1("Mapping", None), "'Mapping'");
        assert_eq!(a1("it's", Some("A1:B2")), "'it''s'!A1:B2");
    }

    #[test]
    fn tabs_come_in_their_order() {
        let resource = json!({"spreadsheetId": "s", "properties": {"title": "T", "locale": "de_DE", "timeZone": "Europe/Berlin"},
            "sheets": [
                {"properties": {"sheetId": 7, "title": "second", "index": 1, "sheetType": "GRID",
                    "gridProperties": {"rowCount": 10, "columnCount": 3}, "hidden": true}},
                {"properties": {"title": "first"}}]});
        let read = Spreadsheet::from_resource("x", &resource).unwrap();
        let tabs: Vec<_> =
            read.sheets.iter().map(|tab| (tab.title.as_str(), tab.sheet_id, tab.row_count, tab.hidden)).collect();
        assert_eq!(tabs, [("first", 0, 0, false), ("second", 7, 10, true)]);
        assert!(Spreadsheet::from_resource("x", &json!({"sheets": []})).is_err());
    }
}
