//! Spreadsheets and their sheets: creation, properties, structure. Values are next door.

use serde_json::{Map, Value, json};

use super::a1::Cells;
use super::cells::{Cell, Render};
use super::values::{self, Grid};
use crate::core::fields::Selector;
use crate::core::{ApiError, Params, Sandbox, Tx};

/// key = spreadsheet id.
pub const SPREADSHEETS: &str = "sheets.spreadsheets";
/// key = `spreadsheet id/sheet id`: rows of cells.
pub const VALUES: &str = "sheets.values";

/// Google's bound on the cells of a spreadsheet.
const MAX_CELLS: u64 = 10_000_000;

/// 404 in Google's words.
pub fn not_found() -> ApiError {
    ApiError::not_found("Requested entity was not found.")
}

/// # Errors
/// 404 when there is none.
pub fn load(tx: &Tx<'_>, id: &str) -> Result<Value, ApiError> {
    tx.get(SPREADSHEETS, id)?.ok_or_else(not_found)
}

/// Creates a spreadsheet. Google ignores a given `spreadsheetId`; here a free one is taken, so that examples can name it.
///
/// # Errors
/// 400 for bad or repeated sheets.
pub fn create(sandbox: &Sandbox, body: &Value) -> Result<Value, ApiError> {
    let wanted = body["spreadsheetId"].as_str().filter(|id| {
        (1..=100).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    });
    let mut properties = json!({
        "title": "Untitled spreadsheet", "locale": "en_US", "autoRecalc": "ON_CHANGE", "timeZone": "Etc/GMT",
    });
    overlay(&mut properties, &body["properties"]);
    let mut sheets = Vec::new();
    let given = body["sheets"].as_array().cloned().unwrap_or_default();
    let given = if given.is_empty() { vec![json!({})] } else { given };
    for (at, sheet) in given.iter().enumerate() {
        let id = if at == 0 { Some(0) } else { None };
        let title = format!("Sheet{}", at + 1);
        sheets.push(json!({ "properties": new_sheet(&sheets, &sheet["properties"], id, &title)? }));
    }
    for (at, sheet) in sheets.iter_mut().enumerate() {
        sheet["properties"]["index"] = json!(at);
    }
    sandbox.db.transaction(|tx| {
        let id = match wanted {
            Some(id) if tx.get(SPREADSHEETS, id)?.is_none() => id.to_string(),
            _ => fresh_id(),
        };
        let spreadsheet = json!({
            "spreadsheetId": id,
            "properties": properties,
            "sheets": sheets,
            "spreadsheetUrl": format!("https://docs.google.com/spreadsheets/d/{id}/edit"),
        });
        check_size(&spreadsheet)?;
        tx.put(SPREADSHEETS, &id, &spreadsheet)?;
        for (given, sheet) in given.iter().zip(&sheets) {
            let grid = grid_of_data(&given["data"])?;
            if !grid.is_empty() {
                values::store(tx, &id, sheet_id(sheet), &grid)?;
            }
        }
        Ok(spreadsheet)
    })
}

/// The spreadsheet, with cells when the request asks for them.
///
/// # Errors
/// 404, 400 for a bad range.
pub fn get(sandbox: &Sandbox, id: &str, params: &Params) -> Result<Value, ApiError> {
    sandbox.db.transaction(|tx| {
        let mut spreadsheet = load(tx, id)?;
        // A field mask that names data asks for it, whatever includeGridData says.
        let mask = params.get("fields").map(Selector::parse).transpose()?;
        let probe = json!({ "sheets": [{ "data": 1 }] });
        let named = mask.is_some_and(|m| m.apply(&probe)["sheets"][0].get("data").is_some());
        let ranges: Vec<&str> = params.all("ranges").collect();
        if !ranges.is_empty() {
            let mut kept: Vec<Value> = Vec::new();
            for range in &ranges {
                let place = values::resolve(&spreadsheet, range)?;
                if !kept.iter().any(|s| sheet_id(s) == place.sheet_id) {
                    let all = spreadsheet["sheets"].as_array().map(Vec::as_slice).unwrap_or_default();
                    kept.extend(all.iter().find(|s| sheet_id(s) == place.sheet_id).cloned());
                }
            }
            spreadsheet["sheets"] = json!(kept);
        }
        if params.flag("includeGridData") || named {
            let original = load(tx, id)?;
            for sheet in spreadsheet["sheets"].as_array_mut().into_iter().flatten() {
                let sheet_id = sheet_id(sheet);
                let grid = values::read(tx, id, sheet_id)?;
                let mut data = Vec::new();
                for range in &ranges {
                    let place = values::resolve(&original, range)?;
                    if place.sheet_id == sheet_id {
                        data.push(grid_data(&grid, Some(place.cells)));
                    }
                }
                if ranges.is_empty() {
                    data.push(grid_data(&grid, None));
                }
                sheet["data"] = json!(data);
            }
        }
        Ok(spreadsheet)
    })
}

/// `:batchUpdate`: all requests or none.
///
/// # Errors
/// 404, 400 for a bad request, 501 for a kind that is not emulated.
pub fn batch_update(sandbox: &Sandbox, id: &str, body: &Value) -> Result<Value, ApiError> {
    sandbox.db.transaction(|tx| {
        let mut spreadsheet = load(tx, id)?;
        let mut replies = Vec::new();
        let requests = body["requests"].as_array().map(Vec::as_slice).unwrap_or_default();
        if requests.is_empty() {
            return Err(ApiError::invalid("Must specify at least one request."));
        }
        for (at, request) in requests.iter().enumerate() {
            let Some((kind, what)) = request.as_object().and_then(|m| m.iter().next()) else {
                return Err(ApiError::invalid(format!("Invalid requests[{at}]: No request set.")));
            };
            let reply = one_request(tx, id, &mut spreadsheet, kind, what).map_err(|mut e| {
                e.message = format!("Invalid requests[{at}].{kind}: {}", e.message);
                e
            })?;
            replies.push(reply);
        }
        check_size(&spreadsheet)?;
        tx.put(SPREADSHEETS, id, &spreadsheet)?;
        let mut answer = json!({ "spreadsheetId": id, "replies": replies });
        if body["includeSpreadsheetInResponse"] == json!(true) {
            answer["updatedSpreadsheet"] = spreadsheet;
        }
        Ok(answer)
    })
}

fn one_request(tx: &Tx<'_>, id: &str, spreadsheet: &mut Value, kind: &str, what: &Value) -> Result<Value, ApiError> {
    let none = json!({});
    match kind {
        "addSheet" => {
            let sheets = sheets_of(spreadsheet);
            let title = (1..).map(|n| format!("Sheet{n}")).find(|t| !sheets.iter().any(|s| title_of(s) == t));
            let mut properties = new_sheet(sheets, &what["properties"], None, &title.unwrap_or_default())?;
            let at = what["properties"]["index"].as_u64().and_then(|i| usize::try_from(i).ok()).unwrap_or(sheets.len());
            let at = at.min(sheets.len());
            properties["index"] = json!(at);
            sheets.insert(at, json!({ "properties": properties }));
            renumber(sheets);
            Ok(json!({ "addSheet": { "properties": properties } }))
        }
        "deleteSheet" => {
            let wanted = what["sheetId"].as_i64().unwrap_or(0);
            let sheets = sheets_of(spreadsheet);
            let at = position(sheets, wanted)?;
            if sheets.len() == 1 {
                return Err(ApiError::invalid("You can't remove all the sheets in a document."));
            }
            sheets.remove(at);
            renumber(sheets);
            tx.delete(VALUES, &format!("{id}/{wanted}"))?;
            Ok(none)
        }
        "duplicateSheet" => {
            let source = what["sourceSheetId"].as_i64().unwrap_or(0);
            let sheets = sheets_of(spreadsheet);
            let at = position(sheets, source)?;
            let mut wanted = sheets[at]["properties"].clone();
            wanted["title"] = what
                .get("newSheetName")
                .cloned()
                .unwrap_or_else(|| json!(format!("Copy of {}", title_of(&sheets[at]))));
            match what.get("newSheetId") {
                Some(new) => wanted["sheetId"] = new.clone(),
                None => wanted["sheetId"] = Value::Null,
            }
            let properties = new_sheet(sheets, &wanted, None, "")?;
            let index =
                what["insertSheetIndex"].as_u64().and_then(|i| usize::try_from(i).ok()).unwrap_or(0).min(sheets.len());
            sheets.insert(index, json!({ "properties": properties }));
            renumber(sheets);
            let new = sheet_id(&sheets[index]);
            let grid = values::read(tx, id, source)?;
            values::store(tx, id, new, &grid)?;
            Ok(json!({ "duplicateSheet": { "properties": sheets[index]["properties"] } }))
        }
        "updateSheetProperties" => {
            let mask = what["fields"].as_str().unwrap_or_default();
            if mask.is_empty() {
                return Err(ApiError::invalid(
                    "At least one field must be listed in 'fields'. (Use '*' to indicate all fields.)",
                ));
            }
            let changes = if mask == "*" {
                what["properties"].clone()
            } else {
                Selector::parse(mask)?.apply(&what["properties"])
            };
            let wanted = what["properties"]["sheetId"].as_i64().unwrap_or(0);
            let sheets = sheets_of(spreadsheet);
            let at = position(sheets, wanted)?;
            if let Some(title) = changes["title"].as_str()
                && sheets.iter().enumerate().any(|(i, s)| i != at && title_of(s) == title)
            {
                return Err(ApiError::invalid(format!(
                    "A sheet with the name \"{title}\" already exists. Please enter another name."
                )));
            }
            let index = changes["index"].as_u64().and_then(|i| usize::try_from(i).ok());
            overlay(&mut sheets[at]["properties"], &changes);
            sheets[at]["properties"]["sheetId"] = json!(wanted);
            if let Some(index) = index {
                let sheet = sheets.remove(at);
                sheets.insert(index.min(sheets.len()), sheet);
            }
            renumber(sheets);
            let sheet = &sheets[position(sheets, wanted)?];
            let (rows, columns) = size_of(sheet);
            let mut grid = values::read(tx, id, wanted)?;
            grid.truncate(rows);
            grid.iter_mut().for_each(|r| r.truncate(columns));
            values::store(tx, id, wanted, &grid)?;
            Ok(none)
        }
        "updateSpreadsheetProperties" => {
            let mask = what["fields"].as_str().unwrap_or("*");
            let changes = if mask == "*" {
                what["properties"].clone()
            } else {
                Selector::parse(mask)?.apply(&what["properties"])
            };
            overlay(&mut spreadsheet["properties"], &changes);
            Ok(none)
        }
        "appendDimension" => {
            let wanted = what["sheetId"].as_i64().unwrap_or(0);
            let length = what["length"].as_u64().unwrap_or(0);
            let sheets = sheets_of(spreadsheet);
            let at = position(sheets, wanted)?;
            let (rows, columns) = size_of(&sheets[at]);
            let (field, old) =
                if what["dimension"] == json!("COLUMNS") { ("columnCount", columns) } else { ("rowCount", rows) };
            sheets[at]["properties"]["gridProperties"][field] = json!(old as u64 + length);
            Ok(none)
        }
        "insertDimension" | "deleteDimension" => {
            let range = &what["range"];
            let wanted = range["sheetId"].as_i64().unwrap_or(0);
            let (from, to) = (range["startIndex"].as_u64().unwrap_or(0), range["endIndex"].as_u64().unwrap_or(0));
            if from >= to {
                return Err(ApiError::invalid("The start index must be less than the end index."));
            }
            let (from, to) = (usize::try_from(from).unwrap_or(usize::MAX), usize::try_from(to).unwrap_or(usize::MAX));
            let columns = range["dimension"] == json!("COLUMNS");
            change_dimension(tx, id, spreadsheet, wanted, (from, to), columns, kind == "insertDimension")?;
            Ok(none)
        }
        other => Err(ApiError::not_implemented(format!("the sandbox does not emulate the request '{other}'"))),
    }
}

fn change_dimension(
    tx: &Tx<'_>,
    id: &str,
    spreadsheet: &mut Value,
    wanted: i64,
    (from, to): (usize, usize),
    columns: bool,
    insert: bool,
) -> Result<(), ApiError> {
    let sheets = sheets_of(spreadsheet);
    let at = position(sheets, wanted)?;
    let (row_count, column_count) = size_of(&sheets[at]);
    let (field, old) = if columns { ("columnCount", column_count) } else { ("rowCount", row_count) };
    if from > old || (!insert && to > old) {
        return Err(ApiError::invalid(format!("range.endIndex[{to}] is too large; the sheet has {old}.")));
    }
    let new = if insert { old + (to - from) } else { old - (to - from) };
    if new == 0 {
        return Err(ApiError::invalid("You can't delete all of a sheet's rows or columns."));
    }
    sheets[at]["properties"]["gridProperties"][field] = json!(new);
    check_size(spreadsheet)?;
    let mut grid = values::read(tx, id, wanted)?;
    let change = |list: &mut Vec<Cell>| {
        if insert && from < list.len() {
            list.splice(from..from, std::iter::repeat_n(Cell::Empty, to - from));
        } else if !insert && from < list.len() {
            let end = to.min(list.len());
            list.drain(from..end);
        }
    };
    if columns {
        grid.iter_mut().for_each(change);
    } else if insert && from < grid.len() {
        grid.splice(from..from, std::iter::repeat_n(Vec::new(), to - from));
    } else if !insert && from < grid.len() {
        let end = to.min(grid.len());
        grid.drain(from..end);
    }
    values::store(tx, id, wanted, &grid)
}

/// The properties of a new sheet.
fn new_sheet(others: &[Value], given: &Value, id: Option<i64>, default_title: &str) -> Result<Value, ApiError> {
    let title = given["title"].as_str().filter(|t| !t.is_empty()).unwrap_or(default_title);
    if others.iter().any(|s| title_of(s) == title) {
        return Err(ApiError::invalid(format!(
            "A sheet with the name \"{title}\" already exists. Please enter another name."
        )));
    }
    let taken = |id: i64| others.iter().any(|s| sheet_id(s) == id);
    let id = match given["sheetId"].as_i64() {
        Some(id) if taken(id) => {
            return Err(ApiError::invalid(format!("Sheet with id {id} already exists.")));
        }
        Some(id) => id,
        None => match id {
            Some(id) if !taken(id) => id,
            _ => i64::from(rand::random::<u32>() & 0x7fff_ffff),
        },
    };
    let mut properties = json!({
        "sheetId": id, "title": title, "index": others.len(), "sheetType": "GRID",
        "gridProperties": { "rowCount": 1000, "columnCount": 26 },
    });
    let mut rest = given.as_object().cloned().unwrap_or_default();
    rest.remove("sheetId");
    rest.remove("index");
    rest.remove("title");
    overlay(&mut properties, &Value::Object(rest));
    Ok(properties)
}

/// Rows and columns of a sheet.
pub fn size_of(sheet: &Value) -> (usize, usize) {
    let grid = &sheet["properties"]["gridProperties"];
    let count = |field: &str| grid[field].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    (count("rowCount"), count("columnCount"))
}

/// A sheet's number.
pub fn sheet_id(sheet: &Value) -> i64 {
    sheet["properties"]["sheetId"].as_i64().unwrap_or(0)
}

/// A sheet's title.
pub fn title_of(sheet: &Value) -> &str {
    sheet["properties"]["title"].as_str().unwrap_or_default()
}

/// # Errors
/// 400 beyond Google's bound on cells.
pub fn check_size(spreadsheet: &Value) -> Result<(), ApiError> {
    let sheets = spreadsheet["sheets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let cells =
        sheets.iter().map(size_of).fold(0_u64, |sum, (r, c)| sum.saturating_add((r as u64).saturating_mul(c as u64)));
    if cells > MAX_CELLS {
        return Err(ApiError::invalid(
            "This action would increase the number of cells in the workbook above the limit of 10000000 cells.",
        ));
    }
    Ok(())
}

fn sheets_of(spreadsheet: &mut Value) -> &mut Vec<Value> {
    if !spreadsheet["sheets"].is_array() {
        spreadsheet["sheets"] = json!([]);
    }
    match &mut spreadsheet["sheets"] {
        Value::Array(sheets) => sheets,
        _ => unreachable!("it was made an array above"),
    }
}

fn position(sheets: &[Value], id: i64) -> Result<usize, ApiError> {
    sheets.iter().position(|s| sheet_id(s) == id).ok_or_else(|| ApiError::invalid(format!("No grid with id: {id}")))
}

fn renumber(sheets: &mut [Value]) {
    for (at, sheet) in sheets.iter_mut().enumerate() {
        sheet["properties"]["index"] = json!(at);
    }
}

/// Lays `changes` over `target`, map by map.
fn overlay(target: &mut Value, changes: &Value) {
    match (target, changes) {
        (Value::Object(target), Value::Object(changes)) => {
            for (key, value) in changes {
                match target.get_mut(key) {
                    Some(old) if old.is_object() && value.is_object() => overlay(old, value),
                    _ => {
                        target.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (_, Value::Null) => {}
        (target, changes) => *target = changes.clone(),
    }
}

fn grid_data(grid: &Grid, cells: Option<Cells>) -> Value {
    let (row, rows_end, column, columns_end) = match cells {
        Some(c) => (c.row, c.rows_end.unwrap_or(usize::MAX), c.column, c.columns_end.unwrap_or(usize::MAX)),
        None => (0, usize::MAX, 0, usize::MAX),
    };
    let rows: Vec<Value> = grid
        .iter()
        .take(rows_end)
        .skip(row)
        .map(|cells| {
            let values: Vec<Value> = cells.iter().take(columns_end).skip(column).map(cell_data).collect();
            if values.is_empty() { json!({}) } else { json!({ "values": values }) }
        })
        .collect();
    let mut data = Map::new();
    if row > 0 {
        data.insert("startRow".into(), json!(row));
    }
    if column > 0 {
        data.insert("startColumn".into(), json!(column));
    }
    data.insert("rowData".into(), json!(rows));
    Value::Object(data)
}

fn cell_data(cell: &Cell) -> Value {
    match cell.extended() {
        Some(value) => json!({
            "userEnteredValue": value,
            "effectiveValue": value,
            "formattedValue": cell.render(Render::Formatted, false),
        }),
        None => json!({}),
    }
}

/// The values in the grid data that a creation may bring.
fn grid_of_data(data: &Value) -> Result<Grid, ApiError> {
    let mut grid: Grid = Vec::new();
    for block in data.as_array().into_iter().flatten() {
        let start = |f: &str| block[f].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let (row, column) = (start("startRow"), start("startColumn"));
        for (r, cells) in block["rowData"].as_array().into_iter().flatten().enumerate() {
            for (c, cell) in cells["values"].as_array().into_iter().flatten().enumerate() {
                let value = &cell["userEnteredValue"];
                let cell = if let Some(b) = value["boolValue"].as_bool() {
                    Cell::Bool(b)
                } else if let Some(n) = value["numberValue"].as_f64() {
                    Cell::Number(n)
                } else if let Some(s) = value["stringValue"].as_str() {
                    Cell::Text(s.into())
                } else if value.get("formulaValue").is_some() {
                    return Err(ApiError::not_implemented("the sandbox does not compute formulas"));
                } else {
                    continue;
                };
                values::set(&mut grid, row + r, column + c, cell);
            }
        }
    }
    Ok(grid)
}

/// 44 characters, as Google's are.
fn fresh_id() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut id = String::from("1");
    while id.len() < 44 {
        id.push(char::from(LETTERS[usize::from(rand::random::<u8>()) % LETTERS.len()]));
    }
    id
}
