//! The types of expressions: BigQuery's, with their Arrow forms inside a plan and outside of it.
//!
//! Inside a plan everything is nullable, carries no metadata, and a struct's fields are called `f0`, `f1`, ...: so two types that
//! differ only by names are one Arrow type, and names live here alone.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, make_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field as ArrowField, FieldRef, Fields, TimeUnit};
use strongroom::codec::arrow_schema::{ITEM, arrow_field};
use strongroom::model::schema::{Field, FieldType, Mode};

use super::error::{Res, invalid, unsupported};
use super::syntax::ast::TypeName;

/// A type of an expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ty {
    Int64,
    Float64,
    Bool,
    String,
    Bytes,
    Numeric,
    BigNumeric,
    Date,
    Datetime,
    Time,
    Timestamp,
    Json,
    Geography,
    Interval,
    Range(Box<Ty>),
    /// Names (empty when anonymous) and types.
    Struct(Arc<[(String, Ty)]>),
    Array(Box<Ty>),
}

impl Ty {
    pub fn array(element: Ty) -> Ty {
        Ty::Array(Box::new(element))
    }

    pub fn structure(fields: Vec<(String, Ty)>) -> Ty {
        Ty::Struct(fields.into())
    }

    /// The Arrow type inside plans.
    pub fn arrow(&self) -> DataType {
        match self {
            Ty::Int64 => DataType::Int64,
            Ty::Float64 => DataType::Float64,
            Ty::Bool => DataType::Boolean,
            Ty::String | Ty::Json | Ty::Geography | Ty::Interval => DataType::Utf8,
            Ty::Bytes => DataType::Binary,
            Ty::Numeric => DataType::Decimal128(38, 9),
            Ty::BigNumeric => DataType::Decimal256(76, 38),
            Ty::Date => DataType::Date32,
            Ty::Datetime => DataType::Timestamp(TimeUnit::Microsecond, None),
            Ty::Time => DataType::Time64(TimeUnit::Microsecond),
            Ty::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Ty::Range(element) => DataType::Struct(inner_fields([element.as_ref(), element.as_ref()].into_iter())),
            Ty::Struct(fields) => DataType::Struct(inner_fields(fields.iter().map(|(_, t)| t))),
            Ty::Array(element) => DataType::List(item_field(element)),
        }
    }

    pub fn is_numeric(&self) -> bool {
        matches!(self, Ty::Int64 | Ty::Float64 | Ty::Numeric | Ty::BigNumeric)
    }

    /// Whether `=` is defined.
    pub fn comparable(&self) -> bool {
        match self {
            Ty::Json | Ty::Geography | Ty::Array(_) => false,
            Ty::Struct(fields) => fields.iter().all(|(_, t)| t.comparable()),
            _ => true,
        }
    }

    /// Whether `<` and ORDER BY are defined.
    pub fn orderable(&self) -> bool {
        self.comparable() && !matches!(self, Ty::Struct(_))
    }

    /// Whether GROUP BY, DISTINCT and PARTITION BY are defined.
    pub fn groupable(&self) -> bool {
        match self {
            Ty::Json | Ty::Geography => false,
            Ty::Struct(fields) => fields.iter().all(|(_, t)| t.groupable()),
            Ty::Array(element) => element.groupable(),
            _ => true,
        }
    }

    /// Whether Arrow's own comparison is BigQuery's (floats are not: NaN and -0.0; nor texts that stand for something else).
    pub fn native_comparison(&self) -> bool {
        !matches!(
            self,
            Ty::Float64 | Ty::Interval | Ty::Json | Ty::Geography | Ty::Range(_) | Ty::Struct(_) | Ty::Array(_)
        )
    }

    /// The type of a column of a table.
    pub fn of_field(field: &Field) -> Ty {
        let element = match field.kind {
            FieldType::Int64 => Ty::Int64,
            FieldType::Float64 => Ty::Float64,
            FieldType::Bool => Ty::Bool,
            FieldType::String => Ty::String,
            FieldType::Bytes => Ty::Bytes,
            FieldType::Numeric => Ty::Numeric,
            FieldType::BigNumeric => Ty::BigNumeric,
            FieldType::Date => Ty::Date,
            FieldType::DateTime => Ty::Datetime,
            FieldType::Time => Ty::Time,
            FieldType::Timestamp => Ty::Timestamp,
            FieldType::Json => Ty::Json,
            FieldType::Geography => Ty::Geography,
            FieldType::Interval => Ty::Interval,
            FieldType::Range => {
                Ty::Range(Box::new(Ty::of_field(&Field::nullable("", field.range_element.unwrap_or(FieldType::Date)))))
            }
            FieldType::Struct => {
                Ty::structure(field.fields.iter().map(|f| (f.name.clone(), Ty::of_field(f))).collect())
            }
        };
        if field.mode == Mode::Repeated { Ty::array(element) } else { element }
    }

    /// The column that holds values of this type.
    ///
    /// # Errors
    /// An array of arrays cannot be a column.
    pub fn to_field(&self, name: &str) -> Res<Field> {
        if let Ty::Array(element) = self {
            if matches!(**element, Ty::Array(_)) {
                return Err(invalid(
                    "Cannot construct array with element type ARRAY because nested arrays are not supported",
                ));
            }
            let mut field = element.to_field(name)?;
            field.mode = Mode::Repeated;
            return Ok(field);
        }
        let mut field = Field::nullable(name, self.field_type());
        match self {
            Ty::Range(element) => field.range_element = Some(element.field_type()),
            Ty::Struct(fields) => {
                if fields.is_empty() {
                    return Err(invalid("A column cannot be a STRUCT without fields"));
                }
                for (n, (name, ty)) in fields.iter().enumerate() {
                    let name = if name.is_empty() { format!("_field_{}", n + 1) } else { name.clone() };
                    if field.fields.iter().any(|f| f.name.eq_ignore_ascii_case(&name)) {
                        return Err(invalid(format!(
                            "Duplicate column names in the result are not supported. Found duplicate(s): {name}"
                        )));
                    }
                    field.fields.push(ty.to_field(&name)?);
                }
            }
            _ => {}
        }
        Ok(field)
    }

    pub fn field_type(&self) -> FieldType {
        match self {
            Ty::Int64 => FieldType::Int64,
            Ty::Float64 => FieldType::Float64,
            Ty::Bool => FieldType::Bool,
            Ty::String => FieldType::String,
            Ty::Bytes => FieldType::Bytes,
            Ty::Numeric => FieldType::Numeric,
            Ty::BigNumeric => FieldType::BigNumeric,
            Ty::Date => FieldType::Date,
            Ty::Datetime => FieldType::DateTime,
            Ty::Time => FieldType::Time,
            Ty::Timestamp => FieldType::Timestamp,
            Ty::Json => FieldType::Json,
            Ty::Geography => FieldType::Geography,
            Ty::Interval => FieldType::Interval,
            Ty::Range(_) => FieldType::Range,
            Ty::Struct(_) => FieldType::Struct,
            Ty::Array(element) => element.field_type(),
        }
    }

    /// A type as written in a query.
    ///
    /// # Errors
    /// Unknown names.
    pub fn of_name(name: &TypeName) -> Res<Ty> {
        Ok(match name {
            TypeName::Simple(name, _) => {
                let kind: FieldType = name.parse().map_err(|_| invalid(format!("Type not found: {name}")))?;
                match kind {
                    FieldType::Struct | FieldType::Range => return Err(invalid(format!("Type not found: {name}"))),
                    kind => Ty::of_field(&Field::nullable("", kind)),
                }
            }
            TypeName::Array(element) => {
                let element = Ty::of_name(element)?;
                if matches!(element, Ty::Array(_)) {
                    return Err(invalid("Arrays of arrays are not supported"));
                }
                Ty::array(element)
            }
            TypeName::Struct(fields) => Ty::structure(
                fields
                    .iter()
                    .map(|(n, t, _)| Ok((n.clone().unwrap_or_default(), Ty::of_name(t)?)))
                    .collect::<Res<_>>()?,
            ),
            TypeName::Range(element) => match Ty::of_name(element)? {
                element @ (Ty::Date | Ty::Datetime | Ty::Timestamp) => Ty::Range(Box::new(element)),
                other => return Err(invalid(format!("Unsupported range element type: {other}"))),
            },
            TypeName::Any => return Err(unsupported("ANY TYPE here")),
        })
    }

    /// The same type without names, for comparison.
    pub fn same(&self, other: &Ty) -> bool {
        match (self, other) {
            (Ty::Struct(a), Ty::Struct(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.1.same(&b.1)),
            (Ty::Array(a), Ty::Array(b)) | (Ty::Range(a), Ty::Range(b)) => a.same(b),
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ty::Array(element) => write!(f, "ARRAY<{element}>"),
            Ty::Range(element) => write!(f, "RANGE<{element}>"),
            Ty::Struct(fields) => {
                f.write_str("STRUCT<")?;
                for (n, (name, ty)) in fields.iter().enumerate() {
                    let comma = if n > 0 { ", " } else { "" };
                    let blank = if name.is_empty() { "" } else { " " };
                    write!(f, "{comma}{name}{blank}{ty}")?;
                }
                f.write_str(">")
            }
            other => f.write_str(other.field_type().sql_name()),
        }
    }
}

/// The field of a list's elements inside plans.
pub fn item_field(element: &Ty) -> FieldRef {
    Arc::new(ArrowField::new(ITEM, element.arrow(), true))
}

/// The fields of a struct inside plans.
pub fn inner_fields<'a>(types: impl Iterator<Item = &'a Ty>) -> Fields {
    types.enumerate().map(|(n, ty)| ArrowField::new(format!("f{n}"), ty.arrow(), true)).collect()
}

/// A column of a table as an array inside plans. Nothing is copied.
///
/// # Errors
/// When the array is not what the field says.
pub fn adopt(array: &ArrayRef, ty: &Ty) -> Res<ArrayRef> {
    let wrong = || invalid(format!("Stored column of type {} is held as {}", ty, array.data_type()));
    match ty {
        Ty::Array(element) => {
            let list = array.as_list_opt::<i32>().ok_or_else(wrong)?;
            let values = adopt(list.values(), element)?;
            let list = ListArray::try_new(item_field(element), list.offsets().clone(), values, list.nulls().cloned());
            Ok(Arc::new(list.map_err(|e| invalid(e.to_string()))?))
        }
        Ty::Struct(_) | Ty::Range(_) => {
            let structure = array.as_struct_opt().ok_or_else(wrong)?;
            let types: Vec<&Ty> = match ty {
                Ty::Struct(fields) => fields.iter().map(|(_, t)| t).collect(),
                Ty::Range(element) => vec![element, element],
                _ => vec![],
            };
            if types.len() != structure.num_columns() {
                return Err(wrong());
            }
            let columns = structure.columns().iter().zip(&types).map(|(c, t)| adopt(c, t)).collect::<Res<Vec<_>>>()?;
            let fields = inner_fields(types.into_iter());
            let rebuilt =
                StructArray::try_new_with_length(fields, columns, structure.nulls().cloned(), structure.len());
            Ok(Arc::new(rebuilt.map_err(|e| invalid(e.to_string()))?))
        }
        leaf => {
            let want = leaf.arrow();
            if *array.data_type() == want {
                return Ok(array.clone());
            }
            if matches!((array.data_type(), &want), (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) if a == b) {
                let data =
                    array.to_data().into_builder().data_type(want).build().map_err(|e| invalid(e.to_string()))?;
                return Ok(make_array(data));
            }
            arrow::compute::cast(array, &want).map_err(|_| wrong())
        }
    }
}

/// An array from inside a plan in the mapping that the rest of the sandbox uses: names, metadata, empty arrays for NULL arrays.
///
/// # Errors
/// A NULL within an array, a NULL where the field is REQUIRED.
pub fn release(array: &ArrayRef, field: &Field) -> Res<ArrayRef> {
    release_with(array, field, None)
}

fn release_with(array: &ArrayRef, field: &Field, parent: Option<&arrow::buffer::NullBuffer>) -> Res<ArrayRef> {
    let target = arrow_field(field);
    let fail = |e: arrow::error::ArrowError| invalid(e.to_string());
    if field.mode == Mode::Repeated {
        let list = array.as_list_opt::<i32>().ok_or_else(|| invalid("An array was expected"))?;
        let list = if list.null_count() > 0 { without_null_lists(list)? } else { list.clone() };
        let DataType::List(item) = target.data_type() else { return Err(invalid("An array was expected")) };
        let mut element = field.clone();
        element.mode = Mode::Nullable;
        // Values outside of the offsets do not count.
        let (first, last) = (list.offsets()[0] as usize, list.offsets()[list.len()] as usize);
        let values = list.values().slice(first, last - first);
        if values.null_count() > 0 {
            return Err(invalid(format!(
                "Array cannot have a null element; error in writing field {}",
                if field.name.is_empty() { "f0_" } else { &field.name }
            )));
        }
        let offsets: Vec<i32> = list.offsets().iter().map(|o| o - first as i32).collect();
        let values = release_with(&values, &element, None)?;
        let list = ListArray::try_new(item.clone(), OffsetBuffer::new(offsets.into()), values, None);
        return Ok(Arc::new(list.map_err(fail)?));
    }
    if field.mode == Mode::Required {
        let missing = match (array.nulls(), parent) {
            (Some(own), Some(parent)) => (0..array.len()).any(|i| own.is_null(i) && parent.is_valid(i)),
            (own, _) => own.is_some_and(|n| n.null_count() > 0),
        };
        if missing {
            return Err(invalid(format!("Required field {} cannot be null", field.name)));
        }
    }
    if let DataType::Struct(fields) = target.data_type() {
        let structure = array.as_struct_opt().ok_or_else(|| invalid("A STRUCT was expected"))?;
        let nulls = structure.nulls();
        let columns: Vec<ArrayRef> = if field.kind == FieldType::Range {
            structure.columns().to_vec()
        } else {
            let pairs = structure.columns().iter().zip(&field.fields);
            pairs.map(|(c, f)| release_with(c, f, nulls)).collect::<Res<_>>()?
        };
        let rebuilt = StructArray::try_new_with_length(fields.clone(), columns, nulls.cloned(), structure.len());
        return Ok(Arc::new(rebuilt.map_err(fail)?));
    }
    if array.data_type() == target.data_type() {
        return Ok(array.clone());
    }
    arrow::compute::cast(array, target.data_type()).map_err(fail)
}

fn without_null_lists(list: &ListArray) -> Res<ListArray> {
    let mut offsets = vec![0_i32];
    let mut indices: Vec<u32> = Vec::new();
    for row in 0..list.len() {
        if list.is_valid(row) {
            indices.extend(list.offsets()[row] as u32..list.offsets()[row + 1] as u32);
        }
        offsets.push(indices.len() as i32);
    }
    let DataType::List(item) = list.data_type() else { return Err(invalid("An array was expected")) };
    let values =
        take(list.values(), &arrow::array::UInt32Array::from(indices), None).map_err(|e| invalid(e.to_string()))?;
    ListArray::try_new(item.clone(), OffsetBuffer::new(offsets.into()), values, None)
        .map_err(|e| invalid(e.to_string()))
}

/// An array from inside a plan with names and type metadata again, NULL arrays kept: for TO_JSON_STRING.
///
/// # Errors
/// When the array is not of the type.
pub fn label(array: &ArrayRef, ty: &Ty, name: &str) -> Res<(ArrowField, ArrayRef)> {
    let fail = |e: arrow::error::ArrowError| invalid(e.to_string());
    let metadata = std::collections::HashMap::from([(
        strongroom::codec::arrow_schema::TYPE_KEY.to_owned(),
        ty.field_type().sql_name().to_owned(),
    )]);
    let labelled: ArrayRef = match ty {
        Ty::Array(element) => {
            let list = array.as_list_opt::<i32>().ok_or_else(|| invalid("An array was expected"))?;
            let (item, values) = label(list.values(), element, ITEM)?;
            Arc::new(
                ListArray::try_new(Arc::new(item), list.offsets().clone(), values, list.nulls().cloned())
                    .map_err(fail)?,
            )
        }
        Ty::Struct(_) | Ty::Range(_) => {
            let structure = array.as_struct_opt().ok_or_else(|| invalid("A STRUCT was expected"))?;
            let parts: Vec<(&str, &Ty)> = match ty {
                Ty::Struct(fields) => fields.iter().map(|(n, t)| (n.as_str(), t)).collect(),
                Ty::Range(element) => vec![("start", element), ("end", element)],
                _ => vec![],
            };
            let mut fields = Vec::new();
            let mut columns = Vec::new();
            for (column, (name, ty)) in structure.columns().iter().zip(parts) {
                let (field, column) = label(column, ty, name)?;
                fields.push(field);
                columns.push(column);
            }
            let nulls = structure.nulls().cloned();
            Arc::new(
                StructArray::try_new_with_length(Fields::from(fields), columns, nulls, structure.len())
                    .map_err(fail)?,
            )
        }
        _ => array.clone(),
    };
    Ok((ArrowField::new(name, labelled.data_type().clone(), true).with_metadata(metadata), labelled))
}
