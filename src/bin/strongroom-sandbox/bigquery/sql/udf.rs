//! Functions of ours as DataFusion's: a Rust closure over rows or over arrays, with types fixed when it was bound.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::ty::Ty;
use super::value::{Reader, Value, build};

/// Computes one row.
pub type RowFn = Arc<dyn Fn(&[Value]) -> Result<Value, String> + Send + Sync>;
/// Computes a batch; all arrays have the given length.
pub type BatchFn = Arc<dyn Fn(&[ArrayRef], usize) -> Result<ArrayRef, String> + Send + Sync>;

/// How a function computes.
#[derive(Clone)]
pub enum Body {
    Rows(RowFn),
    Batch(BatchFn),
}

/// A bound function. Two are equal when their ids and types are.
#[derive(Clone)]
pub struct Function {
    pub id: String,
    pub args: Vec<Ty>,
    pub ret: Ty,
    pub body: Body,
    /// Errors become NULL.
    pub safe: bool,
    signature: Signature,
}

const ERROR_BEGIN: char = '\u{1}';
const ERROR_END: char = '\u{2}';

/// An error of a function, marked so that [`message_of`] finds its text again under DataFusion's own words.
pub fn execution_error(message: &str) -> DataFusionError {
    DataFusionError::Execution(format!("{ERROR_BEGIN}{message}{ERROR_END}"))
}

/// The text of a function's error, if the error is one.
pub fn message_of(error: &str) -> Option<String> {
    let start = error.find(ERROR_BEGIN)? + ERROR_BEGIN.len_utf8();
    let end = error[start..].find(ERROR_END)? + start;
    Some(error[start..end].to_owned())
}

/// A call of a function.
pub fn call(id: impl Into<String>, args: Vec<(Expr, Ty)>, ret: Ty, body: Body, volatile: bool, safe: bool) -> Expr {
    let volatility = if volatile { Volatility::Volatile } else { Volatility::Immutable };
    let signature = if args.is_empty() { Signature::nullary(volatility) } else { Signature::user_defined(volatility) };
    let (exprs, types): (Vec<Expr>, Vec<Ty>) = args.into_iter().unzip();
    let function = Function { id: id.into(), args: types, ret, body, safe, signature };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(function)), exprs))
}

/// A call of a function that works row by row.
pub fn rows(
    id: impl Into<String>,
    args: Vec<(Expr, Ty)>,
    ret: Ty,
    f: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
) -> Expr {
    call(id, args, ret, Body::Rows(Arc::new(f)), false, false)
}

/// A call of a function that works on whole arrays.
pub fn batch(
    id: impl Into<String>,
    args: Vec<(Expr, Ty)>,
    ret: Ty,
    f: impl Fn(&[ArrayRef], usize) -> Result<ArrayRef, String> + Send + Sync + 'static,
) -> Expr {
    call(id, args, ret, Body::Batch(Arc::new(f)), false, false)
}

enum Arg<'a> {
    Constant(Value),
    Column(Reader<'a>),
}

impl Function {
    fn compute(&self, args: &[ArrayRef], constant: &[bool], rows: usize) -> Result<ArrayRef, String> {
        match &self.body {
            Body::Batch(f) => {
                let result = f(args, rows);
                match result {
                    Err(_) if self.safe => self.one_by_one(f, args, rows),
                    other => other,
                }
            }
            Body::Rows(f) => {
                let readers: Vec<Arg> = args
                    .iter()
                    .zip(&self.args)
                    .zip(constant)
                    .map(|((array, ty), constant)| {
                        let reader = Reader::new(array.as_ref(), ty);
                        if *constant { Arg::Constant(reader.get(0)) } else { Arg::Column(reader) }
                    })
                    .collect();
                let mut out = Vec::with_capacity(rows);
                let mut row_args: Vec<Value> = readers
                    .iter()
                    .map(|a| match a {
                        Arg::Constant(v) => v.clone(),
                        Arg::Column(_) => Value::Null,
                    })
                    .collect();
                for row in 0..rows {
                    for (slot, arg) in row_args.iter_mut().zip(&readers) {
                        if let Arg::Column(reader) = arg {
                            *slot = reader.get(row);
                        }
                    }
                    out.push(match f(&row_args) {
                        Err(_) if self.safe => Value::Null,
                        result => result?,
                    });
                }
                build(&self.ret, &out)
            }
        }
    }

    /// A batch function under SAFE: the rows that fail become NULL.
    fn one_by_one(&self, f: &BatchFn, args: &[ArrayRef], rows: usize) -> Result<ArrayRef, String> {
        let mut pieces = Vec::with_capacity(rows);
        for row in 0..rows {
            let slices: Vec<ArrayRef> = args.iter().map(|a| a.slice(row, 1)).collect();
            pieces.push(f(&slices, 1).or_else(|_| build(&self.ret, &[Value::Null]))?);
        }
        let pieces: Vec<&dyn arrow::array::Array> = pieces.iter().map(AsRef::as_ref).collect();
        if pieces.is_empty() {
            return build(&self.ret, &[]);
        }
        arrow::compute::concat(&pieces).map_err(|e| e.to_string())
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?}): {:?}", self.id, self.args, self.ret)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.args == other.args && self.ret == other.ret && self.safe == other.safe
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
        self.args.hash(state);
        self.ret.hash(state);
        self.safe.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        &self.id
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.ret.arrow())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(&self.id, self.ret.arrow(), true)))
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(types.to_vec())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant: Vec<bool> = args.args.iter().map(|a| matches!(a, ColumnarValue::Scalar(_))).collect();
        let fold = constant.iter().all(|c| *c) && self.signature.volatility == Volatility::Immutable;
        let rows = if fold { 1 } else { args.number_rows };
        let by_rows = matches!(self.body, Body::Rows(_));
        let arrays = args
            .args
            .iter()
            .map(|arg| match arg {
                ColumnarValue::Array(array) => Ok(array.clone()),
                // Row functions read a constant once.
                ColumnarValue::Scalar(scalar) => scalar.to_array_of_size(if by_rows { 1 } else { rows }),
            })
            .collect::<DfResult<Vec<_>>>()?;
        let result = self.compute(&arrays, &constant, rows).map_err(|e| execution_error(&e))?;
        if fold {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
        } else {
            Ok(ColumnarValue::Array(result))
        }
    }
}
