//! `spreadsheets.values`: reading and writing ranges of cells.

use serde_json::{Value, json};

use super::a1::{self, Cells};
use super::cells::{Cell, Input, Render, cell_of};
use super::spreadsheets::{SPREADSHEETS, VALUES, check_size, load, sheet_id, size_of, title_of};
use crate::core::{ApiError, Params, Sandbox, Tx};

/// Rows of cells; what is behind the last filled cell of a row, and behind the last such row, is left out.
pub type Grid = Vec<Vec<Cell>>;

/// Where a range lies.
#[derive(Debug, Clone)]
pub struct Place {
    pub sheet_id: i64,
    title: String,
    /// The range as it was said, ends clamped to the grid.
    pub cells: Cells,
    row_count: usize,
    column_count: usize,
}

/// `values.get`.
///
/// # Errors
/// 404, 400 for a bad range or option.
pub fn get(sandbox: &Sandbox, id: &str, range: &str, params: &Params) -> Result<Value, ApiError> {
    let look = Look::of(params)?;
    sandbox.db.transaction(|tx| {
        let spreadsheet = load(tx, id)?;
        read_range(tx, id, &spreadsheet, range, &look)
    })
}

/// `values.batchGet`.
///
/// # Errors
/// As [`get`].
pub fn batch_get(sandbox: &Sandbox, id: &str, params: &Params) -> Result<Value, ApiError> {
    let look = Look::of(params)?;
    sandbox.db.transaction(|tx| {
        let spreadsheet = load(tx, id)?;
        let ranges: Result<Vec<Value>, ApiError> =
            params.all("ranges").map(|range| read_range(tx, id, &spreadsheet, range, &look)).collect();
        Ok(json!({ "spreadsheetId": id, "valueRanges": ranges? }))
    })
}

/// `values.update`.
///
/// # Errors
/// 404, 400 for a bad range, option or value.
pub fn update(sandbox: &Sandbox, id: &str, range: &str, params: &Params, body: &Value) -> Result<Value, ApiError> {
    let input = input_of(params.get("valueInputOption"))?;
    let echo = params.flag("includeValuesInResponse").then(|| Look::of_response(params)).transpose()?;
    if let Some(other) = body["range"].as_str()
        && other != range
        && resolve_differs(sandbox, id, range, other)?
    {
        return Err(ApiError::invalid(format!(
            "Requested writing within range [{range}], but tried writing to [{other}]"
        )));
    }
    sandbox.db.transaction(|tx| {
        let spreadsheet = load(tx, id)?;
        write_range(tx, id, &spreadsheet, range, body, input, echo.as_ref())
    })
}

/// `values.batchUpdate`: all or nothing.
///
/// # Errors
/// As [`update`].
pub fn batch_update(sandbox: &Sandbox, id: &str, body: &Value) -> Result<Value, ApiError> {
    let input = input_of(body["valueInputOption"].as_str())?;
    sandbox.db.transaction(|tx| {
        let spreadsheet = load(tx, id)?;
        let mut responses = Vec::new();
        for data in body["data"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let range = data["range"].as_str().unwrap_or_default();
            responses.push(write_range(tx, id, &spreadsheet, range, data, input, None)?);
        }
        let sum = |field: &str| responses.iter().filter_map(|r| r[field].as_u64()).sum::<u64>();
        let mut sheets: Vec<&str> =
            responses.iter().filter_map(|r| r["updatedRange"].as_str()?.split('!').next()).collect();
        sheets.sort_unstable();
        sheets.dedup();
        Ok(json!({
            "spreadsheetId": id,
            "totalUpdatedRows": sum("updatedRows"),
            "totalUpdatedColumns": sum("updatedColumns"),
            "totalUpdatedCells": sum("updatedCells"),
            "totalUpdatedSheets": sheets.len(),
            "responses": responses,
        }))
    })
}

/// `values.append`: after the last row of the table that the range touches.
///
/// # Errors
/// As [`update`].
pub fn append(sandbox: &Sandbox, id: &str, range: &str, params: &Params, body: &Value) -> Result<Value, ApiError> {
    let input = input_of(params.get("valueInputOption"))?;
    let insert = match params.get("insertDataOption") {
        None | Some("OVERWRITE") => false,
        Some("INSERT_ROWS") => true,
        Some(other) => return Err(bad_option("insertDataOption", other)),
    };
    let echo = params.flag("includeValuesInResponse").then(|| Look::of_response(params)).transpose()?;
    sandbox.db.transaction(|tx| {
        let mut spreadsheet = load(tx, id)?;
        let place = resolve(&spreadsheet, range)?;
        let mut grid = read(tx, id, place.sheet_id)?;
        let table = table_at(&grid, &place.cells);
        let rows = by_rows(body)?;
        let at = table.map_or(place.cells.row, |(_, end)| end);
        let column = table.map_or(place.cells.column, |_| first_column(&grid, table, place.cells.column));
        if insert && at < grid.len() {
            grid.splice(at..at, std::iter::repeat_n(Vec::new(), rows.len()));
            store(tx, id, place.sheet_id, &grid)?;
        }
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        let grown_rows = if insert { place.row_count + rows.len() } else { place.row_count.max(at + rows.len()) };
        if let Some(sheet) =
            spreadsheet["sheets"].as_array_mut().into_iter().flatten().find(|s| sheet_id(s) == place.sheet_id)
        {
            let size = &mut sheet["properties"]["gridProperties"];
            size["rowCount"] = json!(grown_rows.max(at + rows.len()));
            size["columnCount"] = json!(place.column_count.max(column + width));
        }
        check_size(&spreadsheet)?;
        tx.put(SPREADSHEETS, id, &spreadsheet)?;
        let target = a1::write(&place.title, at, at + rows.len().max(1), column, column + width.max(1));
        let updates = write_range(tx, id, &spreadsheet, &target, body, input, echo.as_ref())?;
        let mut answer = json!({ "spreadsheetId": id, "updates": updates });
        if let Some((top, bottom)) = table {
            let right = grid[top..bottom.min(grid.len())].iter().map(Vec::len).max().unwrap_or(1);
            answer["tableRange"] = json!(a1::write(&place.title, top, bottom, column, right));
        }
        Ok(answer)
    })
}

/// `values.clear`.
///
/// # Errors
/// 404, 400 for a bad range.
pub fn clear(sandbox: &Sandbox, id: &str, range: &str) -> Result<Value, ApiError> {
    sandbox.db.transaction(|tx| {
        let spreadsheet = load(tx, id)?;
        let cleared = clear_range(tx, id, &spreadsheet, range)?;
        Ok(json!({ "spreadsheetId": id, "clearedRange": cleared }))
    })
}

/// `values.batchClear`.
///
/// # Errors
/// As [`clear`].
pub fn batch_clear(sandbox: &Sandbox, id: &str, body: &Value) -> Result<Value, ApiError> {
    sandbox.db.transaction(|tx| {
        let spreadsheet = load(tx, id)?;
        let ranges = body["ranges"].as_array().map(Vec::as_slice).unwrap_or_default();
        let cleared: Result<Vec<String>, ApiError> =
            ranges.iter().map(|r| clear_range(tx, id, &spreadsheet, r.as_str().unwrap_or_default())).collect();
        Ok(json!({ "spreadsheetId": id, "clearedRanges": cleared? }))
    })
}

/// Finds the sheet and the cells that a range means.
///
/// # Errors
/// 400 when it cannot be parsed, names no sheet or begins outside the grid.
pub fn resolve(spreadsheet: &Value, range: &str) -> Result<Place, ApiError> {
    let unparsable = || ApiError::invalid(format!("Unable to parse range: {range}"));
    let sheets = spreadsheet["sheets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let titled = |title: &str| sheets.iter().find(|s| title_of(s).to_lowercase() == title.to_lowercase());
    let parsed = a1::parse(range, |t| titled(t).is_some()).ok_or_else(unparsable)?;
    let sheet = match &parsed.sheet {
        Some(title) => titled(title),
        None => sheets.first(),
    };
    let sheet = sheet.ok_or_else(unparsable)?;
    let (row_count, column_count) = size_of(sheet);
    let mut cells = parsed.cells.unwrap_or(Cells { row: 0, rows_end: None, column: 0, columns_end: None });
    if cells.row >= row_count || cells.column >= column_count {
        return Err(ApiError::invalid(format!(
            "Range ({range}) exceeds grid limits. Max rows: {row_count}, max columns: {column_count}"
        )));
    }
    cells.rows_end = cells.rows_end.map(|e| e.min(row_count));
    cells.columns_end = cells.columns_end.map(|e| e.min(column_count));
    Ok(Place { sheet_id: sheet_id(sheet), title: title_of(sheet).into(), cells, row_count, column_count })
}

/// A sheet's cells.
///
/// # Errors
/// When the database fails.
pub fn read(tx: &Tx<'_>, id: &str, sheet: i64) -> Result<Grid, ApiError> {
    match tx.get(VALUES, &format!("{id}/{sheet}"))? {
        Some(value) => {
            serde_json::from_value(value).map_err(|e| ApiError::internal(format!("a stored sheet is damaged: {e}")))
        }
        None => Ok(Grid::new()),
    }
}

/// Stores a sheet's cells, trimmed.
///
/// # Errors
/// When the database fails.
pub fn store(tx: &Tx<'_>, id: &str, sheet: i64, grid: &Grid) -> Result<(), ApiError> {
    let mut grid = grid.clone();
    for row in &mut grid {
        let filled = row.iter().rposition(|c| !c.is_empty()).map_or(0, |at| at + 1);
        row.truncate(filled);
    }
    let filled = grid.iter().rposition(|r| !r.is_empty()).map_or(0, |at| at + 1);
    grid.truncate(filled);
    let value = serde_json::to_value(&grid).map_err(|e| ApiError::internal(e.to_string()))?;
    tx.put(VALUES, &format!("{id}/{sheet}"), &value)
}

/// Sets one cell; the grid grows as needed.
pub fn set(grid: &mut Grid, row: usize, column: usize, cell: Cell) {
    if grid.len() <= row {
        grid.resize(row + 1, Vec::new());
    }
    if grid[row].len() <= column {
        grid[row].resize(column + 1, Cell::Empty);
    }
    grid[row][column] = cell;
}

/// How values are shown in an answer.
struct Look {
    render: Render,
    dates_as_text: bool,
    columns: bool,
}

impl Look {
    fn of(params: &Params) -> Result<Self, ApiError> {
        let columns = match params.get("majorDimension") {
            None | Some("ROWS" | "DIMENSION_UNSPECIFIED" | "0" | "1") => false,
            Some("COLUMNS" | "2") => true,
            Some(other) => return Err(bad_option("majorDimension", other)),
        };
        Self::new(params.get("valueRenderOption"), params.get("dateTimeRenderOption"), columns)
    }

    fn of_response(params: &Params) -> Result<Self, ApiError> {
        Self::new(params.get("responseValueRenderOption"), params.get("responseDateTimeRenderOption"), false)
    }

    fn new(render: Option<&str>, dates: Option<&str>, columns: bool) -> Result<Self, ApiError> {
        let render = match render {
            None | Some("FORMATTED_VALUE" | "0") => Render::Formatted,
            // Without formulas, a formula is its value.
            Some("UNFORMATTED_VALUE" | "FORMULA" | "1" | "2") => Render::Unformatted,
            Some(other) => return Err(bad_option("valueRenderOption", other)),
        };
        let dates_as_text = match dates {
            None | Some("SERIAL_NUMBER" | "0") => false,
            Some("FORMATTED_STRING" | "1") => true,
            Some(other) => return Err(bad_option("dateTimeRenderOption", other)),
        };
        Ok(Self { render, dates_as_text, columns })
    }
}

fn bad_option(name: &str, value: &str) -> ApiError {
    ApiError::invalid(format!("Invalid value at '{name}': \"{value}\"")).at("parameter", name)
}

fn input_of(option: Option<&str>) -> Result<Input, ApiError> {
    match option {
        Some("RAW" | "1") => Ok(Input::Raw),
        Some("USER_ENTERED" | "2") => Ok(Input::UserEntered),
        None | Some("INPUT_VALUE_OPTION_UNSPECIFIED" | "0") => {
            Err(ApiError::invalid("'valueInputOption' is required but not specified"))
        }
        Some(other) => Err(bad_option("valueInputOption", other)),
    }
}

fn read_range(tx: &Tx<'_>, id: &str, spreadsheet: &Value, range: &str, look: &Look) -> Result<Value, ApiError> {
    let place = resolve(spreadsheet, range)?;
    let grid = read(tx, id, place.sheet_id)?;
    let Cells { row, rows_end, column, columns_end } = place.cells;
    let (rows_end, columns_end) = (rows_end.unwrap_or(place.row_count), columns_end.unwrap_or(place.column_count));
    let mut cells: Vec<Vec<Cell>> = grid
        .iter()
        .take(rows_end)
        .skip(row)
        .map(|r| r.iter().take(columns_end).skip(column).cloned().collect())
        .collect();
    if look.columns {
        let width = cells.iter().map(Vec::len).max().unwrap_or(0);
        cells = (0..width).map(|c| cells.iter().map(|r| r.get(c).cloned().unwrap_or_default()).collect()).collect();
    }
    for line in &mut cells {
        let filled = line.iter().rposition(|c| !c.is_empty()).map_or(0, |at| at + 1);
        line.truncate(filled);
    }
    let filled = cells.iter().rposition(|l| !l.is_empty()).map_or(0, |at| at + 1);
    cells.truncate(filled);
    let values: Vec<Vec<Value>> =
        cells.iter().map(|line| line.iter().map(|c| c.render(look.render, look.dates_as_text)).collect()).collect();
    let mut answer = json!({
        "range": a1::write(&place.title, row, rows_end, column, columns_end),
        "majorDimension": if look.columns { "COLUMNS" } else { "ROWS" },
    });
    if !values.is_empty() {
        answer["values"] = json!(values);
    }
    Ok(answer)
}

fn write_range(
    tx: &Tx<'_>,
    id: &str,
    spreadsheet: &Value,
    range: &str,
    body: &Value,
    input: Input,
    echo: Option<&Look>,
) -> Result<Value, ApiError> {
    let place = resolve(spreadsheet, range)?;
    let rows = by_rows(body)?;
    let Cells { row, rows_end, column, columns_end } = place.cells;
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    // A single cell only says where to begin.
    let single = rows_end == Some(row + 1) && columns_end == Some(column + 1);
    let whole = a1::write(
        &place.title,
        row,
        rows_end.unwrap_or(place.row_count),
        column,
        columns_end.unwrap_or(place.column_count),
    );
    if !single {
        if rows_end.is_some_and(|e| row + rows.len() > e) {
            return Err(ApiError::invalid(format!(
                "Requested writing within range [{whole}], but tried writing to row [{}]",
                rows_end.unwrap_or(0) + 1
            )));
        }
        if columns_end.is_some_and(|e| column + width > e) {
            return Err(ApiError::invalid(format!(
                "Requested writing within range [{whole}], but tried writing to column [{}]",
                a1::column_name(columns_end.unwrap_or(0))
            )));
        }
    }
    if row + rows.len() > place.row_count || column + width > place.column_count {
        return Err(ApiError::invalid(format!(
            "Range ({}) exceeds grid limits. Max rows: {}, max columns: {}",
            a1::write(&place.title, row, row + rows.len(), column, column + width),
            place.row_count,
            place.column_count
        )));
    }
    let mut grid = read(tx, id, place.sheet_id)?;
    let mut count = 0_u64;
    for (r, values) in rows.iter().enumerate() {
        for (c, value) in values.iter().enumerate() {
            let cell = cell_of(value, input).map_err(|mut e| {
                e.message = format!("Invalid values[{r}][{c}]: {}", e.message);
                e
            })?;
            if let Some(cell) = cell {
                set(&mut grid, row + r, column + c, cell);
                count += 1;
            }
        }
    }
    store(tx, id, place.sheet_id, &grid)?;
    let updated = a1::write(&place.title, row, row + rows.len(), column, column + width);
    let mut answer = json!({ "spreadsheetId": id, "updatedRange": updated });
    if count > 0 {
        answer["updatedRows"] = json!(rows.len());
        answer["updatedColumns"] = json!(width);
        answer["updatedCells"] = json!(count);
    }
    if let Some(look) = echo {
        answer["updatedData"] = read_range(tx, id, spreadsheet, &updated, look)?;
    }
    Ok(answer)
}

fn clear_range(tx: &Tx<'_>, id: &str, spreadsheet: &Value, range: &str) -> Result<String, ApiError> {
    let place = resolve(spreadsheet, range)?;
    let Cells { row, rows_end, column, columns_end } = place.cells;
    let (rows_end, columns_end) = (rows_end.unwrap_or(place.row_count), columns_end.unwrap_or(place.column_count));
    let mut grid = read(tx, id, place.sheet_id)?;
    for cells in grid.iter_mut().take(rows_end).skip(row) {
        for cell in cells.iter_mut().take(columns_end).skip(column) {
            *cell = Cell::Empty;
        }
    }
    store(tx, id, place.sheet_id, &grid)?;
    Ok(a1::write(&place.title, row, rows_end, column, columns_end))
}

/// The body's values by rows, whatever its major dimension is.
fn by_rows(body: &Value) -> Result<Vec<Vec<Value>>, ApiError> {
    let lines: Vec<Vec<Value>> = match &body["values"] {
        Value::Null => Vec::new(),
        Value::Array(lines) => lines
            .iter()
            .map(|l| {
                l.as_array()
                    .cloned()
                    .ok_or_else(|| ApiError::invalid("Invalid value at 'data.values': a list of lists is needed"))
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(ApiError::invalid("Invalid value at 'data.values': a list of lists is needed")),
    };
    if body["majorDimension"] != json!("COLUMNS") {
        return Ok(lines);
    }
    let height = lines.iter().map(Vec::len).max().unwrap_or(0);
    Ok((0..height).map(|r| lines.iter().map(|l| l.get(r).cloned().unwrap_or(Value::Null)).collect()).collect())
}

/// First row and end of the last block of filled rows that the range touches.
fn table_at(grid: &Grid, cells: &Cells) -> Option<(usize, usize)> {
    let filled = |r: usize| grid.get(r).is_some_and(|row| row.iter().any(|c| !c.is_empty()));
    let end = cells.rows_end.unwrap_or(usize::MAX).min(grid.len());
    let last = (cells.row..end).rev().find(|r| filled(*r))?;
    let mut bottom = last + 1;
    while filled(bottom) {
        bottom += 1;
    }
    let mut top = last;
    while top > 0 && filled(top - 1) {
        top -= 1;
    }
    Some((top, bottom))
}

/// Where a table's first filled column is; `default` when it has none.
fn first_column(grid: &Grid, table: Option<(usize, usize)>, default: usize) -> usize {
    let Some((top, bottom)) = table else { return default };
    let rows = &grid[top..bottom.min(grid.len())];
    rows.iter().filter_map(|r| r.iter().position(|c| !c.is_empty())).min().unwrap_or(default)
}

/// Whether two ranges mean different places.
fn resolve_differs(sandbox: &Sandbox, id: &str, a: &str, b: &str) -> Result<bool, ApiError> {
    sandbox.db.transaction(|tx| {
        let spreadsheet = load(tx, id)?;
        let (a, b) = (resolve(&spreadsheet, a)?, resolve(&spreadsheet, b)?);
        Ok(a.sheet_id != b.sheet_id || (a.cells.row, a.cells.column) != (b.cells.row, b.cells.column))
    })
}

#[cfg(test)]
mod tests {
    use super::super::spreadsheets;
    use super::*;
    use crate::core::Options;

    fn sandbox() -> (tempfile::TempDir, std::sync::Arc<Sandbox>) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            project: "p".into(),
            allow_external_targets: false,
            bigquery: crate::bigquery::Settings::default(),
        };
        let sandbox = Sandbox::open(dir.path(), options).unwrap();
        let grid = json!({ "rowCount": 20, "columnCount": 5 });
        let body =
            json!({ "spreadsheetId": "s", "sheets": [{ "properties": { "title": "t", "gridProperties": grid } }] });
        spreadsheets::create(&sandbox, &body).unwrap();
        (dir, sandbox)
    }

    fn raw() -> Params {
        Params::parse(Some("valueInputOption=RAW"))
    }

    #[test]
    fn writes_and_reads_keep_to_their_ranges() {
        let (_dir, sandbox) = sandbox();
        let write = |range: &str, values: Value| update(&sandbox, "s", range, &raw(), &json!({ "values": values }));
        let read = |range: &str| get(&sandbox, "s", range, &Params::default()).unwrap();
        let answer = write("t!B2", json!([["a", "b"], ["c"]])).unwrap();
        assert_eq!((answer["updatedRange"].as_str(), answer["updatedCells"].as_u64()), (Some("t!B2:C3"), Some(3)));
        assert_eq!(read("t")["values"], json!([[], ["", "a", "b"], ["", "c"]]));
        assert_eq!(read("t")["range"], "t!A1:E20");
        assert_eq!(read("B2:B9")["values"], json!([["a"], ["c"]]));
        assert_eq!(read("t!D:D").get("values"), None);
        write("t!B2:C2", json!([[null, "B"]])).unwrap();
        assert_eq!(read("t!B2:C2")["values"], json!([["a", "B"]]));
        for (range, values) in [
            ("t!A1:A2", json!([["x", "y"]])),
            ("t!A1:A2", json!([["1"], ["2"], ["3"]])),
            ("t!E20", json!([["x", "y"]])),
        ] {
            assert_eq!(write(range, values).unwrap_err().code, 400, "{range}");
        }
        let columns = Params::parse(Some("majorDimension=COLUMNS"));
        assert_eq!(get(&sandbox, "s", "t!B2:C3", &columns).unwrap()["values"], json!([["a", "c"], ["B"]]));
        assert_eq!(get(&sandbox, "none", "A1", &Params::default()).unwrap_err().code, 404);
        assert_eq!(get(&sandbox, "s", "t!F1", &Params::default()).unwrap_err().code, 400);
    }

    #[test]
    fn appending_finds_the_end_of_the_table() {
        let (_dir, sandbox) = sandbox();
        let add = |range: &str, values: Value, insert: bool| {
            let option = if insert { "&insertDataOption=INSERT_ROWS" } else { "" };
            let params = Params::parse(Some(&format!("valueInputOption=RAW{option}")));
            append(&sandbox, "s", range, &params, &json!({ "values": values })).unwrap()
        };
        let answer = add("t", json!([["a"], ["b"]]), false);
        assert_eq!((answer.get("tableRange"), &answer["updates"]["updatedRange"]), (None, &json!("t!A1:A2")));
        update(&sandbox, "s", "t!A4", &raw(), &json!({ "values": [["below"]] })).unwrap();
        let answer = add("t!A1", json!([["c"]]), true);
        assert_eq!((&answer["tableRange"], &answer["updates"]["updatedRange"]), (&json!("t!A1:A2"), &json!("t!A3")));
        let all = get(&sandbox, "s", "t!A:A", &Params::default()).unwrap();
        assert_eq!(all["values"], json!([["a"], ["b"], ["c"], [], ["below"]]));
        // The grid grows when the table ends at its end.
        let many: Vec<Value> = (0..30).map(|n| json!([n])).collect();
        add("t", json!(many), false);
        assert_eq!(get(&sandbox, "s", "t", &Params::default()).unwrap()["range"], "t!A1:E35");
    }
}
