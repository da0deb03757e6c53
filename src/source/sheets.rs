//! Tabs of a Google Sheets spreadsheet: raw cells with their types and formulas, and the same values as a table.
//!
//! Formats, colours and charts are not kept: the mapping is its values.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::SheetsSource;
use crate::google::Google;
use crate::google::sheets::{Input, Render, a1};
use crate::model::Failure;
use crate::plan::facts::SheetsFacts;

/// The raw cells of a tab: what a restore writes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Cells by row: texts, numbers, true or false; `""` is an empty cell. Dates are serial numbers.
    pub values: Vec<Vec<Value>>,
    /// Cells that hold a formula; `values` has its result.
    pub formulas: Vec<Formula>,
}

/// A formula and where it stands, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formula {
    pub row: usize,
    pub column: usize,
    pub formula: String,
}

/// The spreadsheet's title and tabs.
///
/// # Errors
/// `NotFound` or `Denied` name the spreadsheet.
pub async fn inventory(google: &Google, name: &str, source: &SheetsSource) -> Result<SheetsFacts, Failure> {
    let found = google.sheets.get(&source.spreadsheet).await?;
    Ok(SheetsFacts {
        name: name.into(),
        spreadsheet: source.spreadsheet.clone(),
        title: found.title,
        tabs: found.sheets.into_iter().filter(|sheet| sheet.kind != "OBJECT").map(|sheet| sheet.title).collect(),
    })
}

/// Reads a tab.
///
/// # Errors
/// When it cannot be read.
pub async fn read(google: &Google, spreadsheet: &str, tab: &str) -> Result<Grid, Failure> {
    let range = a1(tab, None);
    let values = google.sheets.read_values(spreadsheet, &range, Render::Values).await?;
    let typed = google.sheets.read_values(spreadsheet, &range, Render::Formulas).await?;
    Ok(Grid::new(values, &typed))
}

/// Writes a tab: its cells are replaced, all of them.
///
/// # Errors
/// When it cannot be written.
pub async fn write(google: &Google, spreadsheet: &str, tab: &str, make: bool, grid: &Grid) -> Result<(), Failure> {
    let (rows, columns) = grid.size();
    let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    if make {
        google.sheets.add_sheet(spreadsheet, tab, size(rows.max(1000)), size(columns.max(26))).await?;
    } else {
        let found = google.sheets.get(spreadsheet).await?;
        let sheet = found.sheets.iter().find(|sheet| sheet.title == tab);
        if let Some(sheet) = sheet.filter(|s| s.row_count < size(rows) || s.column_count < size(columns)) {
            let (rows, columns) = (size(rows).max(sheet.row_count), size(columns).max(sheet.column_count));
            google.sheets.resize_sheet(spreadsheet, sheet.sheet_id, rows, columns).await?;
        }
        google.sheets.clear_values(spreadsheet, &a1(tab, None)).await?;
    }
    if rows > 0 {
        google.sheets.write_values(spreadsheet, &a1(tab, Some("A1")), &grid.values, Input::Raw).await?;
    }
    for formula in &grid.formulas {
        let cell = format!("{}{}", column_letters(formula.column), formula.row + 1);
        let rows = [vec![Value::String(formula.formula.clone())]];
        google.sheets.write_values(spreadsheet, &a1(tab, Some(&cell)), &rows, Input::UserEntered).await?;
    }
    Ok(())
}

/// Makes a tab as it was before it was written: with these cells, or not there at all.
///
/// # Errors
/// When it cannot be written; a spreadsheet that is gone is no failure.
pub async fn put_back(google: &Google, spreadsheet: &str, tab: &str, grid: Option<&Grid>) -> Result<(), Failure> {
    let found = match google.sheets.get(spreadsheet).await {
        Ok(found) => found,
        Err(Failure::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let sheet = found.sheets.iter().find(|sheet| sheet.title == tab);
    match (sheet, grid) {
        (None, None) => Ok(()),
        (Some(sheet), None) => google.sheets.delete_sheet(spreadsheet, sheet.sheet_id).await,
        (sheet, Some(grid)) => write(google, spreadsheet, tab, sheet.is_none(), grid).await,
    }
}

impl Grid {
    /// `typed` are the same cells as a person typed them: a cell that differs there and begins with `=` is a formula.
    fn new(values: Vec<Vec<Value>>, typed: &[Vec<Value>]) -> Self {
        let mut formulas = Vec::new();
        for (row, cells) in typed.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                let value = values.get(row).and_then(|cells| cells.get(column));
                if let Some(text) = cell.as_str().filter(|text| text.starts_with('='))
                    && value != Some(cell)
                {
                    formulas.push(Formula { row, column, formula: text.into() });
                }
            }
        }
        Self { values, formulas }
    }

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        (self.values.len(), self.values.iter().map(Vec::len).max().unwrap_or(0))
    }

    /// Whether another grid has the same cells; empty cells at the end of a row do not count.
    pub fn same(&self, other: &Self) -> bool {
        let trimmed = |grid: &Self| -> Vec<Vec<Value>> {
            let mut rows: Vec<Vec<Value>> = grid
                .values
                .iter()
                .map(|row| {
                    let end = row.iter().rposition(|cell| !is_empty(cell)).map_or(0, |at| at + 1);
                    row[..end].to_vec()
                })
                .collect();
            while rows.last().is_some_and(Vec::is_empty) {
                rows.pop();
            }
            rows
        };
        trimmed(self) == trimmed(other) && self.formulas == other.formulas
    }

    /// The values as a table of texts: the first row names the columns.
    ///
    /// # Errors
    /// When the values do not make a table (never for what [`read`] gives).
    pub fn table(&self) -> Result<RecordBatch, Failure> {
        let (_, width) = self.size();
        let names = column_names(self.values.first().map(Vec::as_slice).unwrap_or_default(), width);
        let mut builders: Vec<StringBuilder> = names.iter().map(|_| StringBuilder::new()).collect();
        for row in self.values.iter().skip(1) {
            for (i, builder) in builders.iter_mut().enumerate() {
                match row.get(i).filter(|cell| !is_empty(cell)) {
                    Some(cell) => builder.append_value(text(cell)),
                    None => builder.append_null(),
                }
            }
        }
        let fields: Vec<Field> = names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
        let columns: Vec<ArrayRef> =
            builders.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef).collect();
        let rows = self.values.len().saturating_sub(1);
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), columns, &options)
            .map_err(|error| Failure::Invalid { object: "sheet".into(), message: error.to_string() })
    }
}

fn is_empty(cell: &Value) -> bool {
    cell.is_null() || cell.as_str() == Some("")
}

fn text(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "TRUE".into(),
        Value::Bool(false) => "FALSE".into(),
        other => other.to_string(),
    }
}

/// Names for columns out of a header: none empty, none twice.
fn column_names(header: &[Value], width: usize) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(width);
    for i in 0..width {
        let given = header.get(i).map(text).filter(|name| !name.is_empty());
        let mut name = given.clone().unwrap_or_else(|| format!("column_{}", i + 1));
        let mut n = 2;
        while names.contains(&name) {
            name = format!("{}_{n}", given.as_deref().unwrap_or("column"));
            n += 1;
        }
        names.push(name);
    }
    names
}

/// A, B, ..., Z, AA, AB, ... for 0, 1, ...
fn column_letters(mut column: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'A' + (column % 26) as u8));
        if column < 26 {
            return letters.iter().rev().collect();
        }
        column = column / 26 - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formulas_are_told_from_texts_that_look_like_them() {
        let values = vec![vec![json!("k"), json!(2), json!("=1+1")]];
        let typed = vec![vec![json!("k"), json!("=1+1"), json!("=1+1")]];
        let grid = Grid::new(values, &typed);
        assert_eq!(grid.formulas, [Formula { row: 0, column: 1, formula: "=1+1".into() }]);
    }

    #[test]
    fn the_table_has_a_name_for_every_column_and_a_row_for_every_row() {
        let grid = Grid {
            values: vec![
                vec![json!("key"), json!(""), json!("key")],
                vec![json!("k-1"), json!(true), json!(1e15), json!("beyond")],
                vec![],
            ],
            formulas: vec![],
        };
        let table = grid.table().unwrap();
        let names: Vec<String> = table.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["key", "column_2", "key_2", "column_4"]);
        assert_eq!((table.num_rows(), table.column(1).null_count()), (2, 1));
    }

    #[test]
    fn columns_are_lettered_as_sheets_does() {
        for (column, letters) in [(0, "A"), (25, "Z"), (26, "AA"), (27, "AB"), (701, "ZZ"), (702, "AAA")] {
            assert_eq!(column_letters(column), letters);
        }
    }
}
