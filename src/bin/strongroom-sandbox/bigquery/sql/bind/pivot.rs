//! PIVOT and UNPIVOT, written as the queries they stand for.

use super::Context;
use super::from::Rel;
use super::query::{Outer, Tail};
use super::scope::Names;
use super::select::star;
use crate::bigquery::sql::error::{Res, invalid, unsupported};
use crate::bigquery::sql::syntax::ast::{
    Call, Expr as Ast, From, GroupBy, GroupItem, Item, JoinKind, Kind, Name, Select, SelectAs,
};

fn node(at: usize, kind: Kind) -> Ast {
    Ast { at, kind: Box::new(kind) }
}

fn path(name: &str, at: usize) -> Ast {
    node(at, Kind::Path(vec![Name { text: name.into(), at }]))
}

fn named(name: &str, args: Vec<Ast>, at: usize) -> Ast {
    let call = Call {
        name: vec![Name { text: name.into(), at }],
        safe: false,
        distinct: false,
        args,
        ignore_nulls: None,
        having: None,
        order_by: vec![],
        limit: None,
        over: None,
    };
    node(at, Kind::Call(call))
}

/// Every plain name in an expression.
fn mentioned(ast: &Ast, out: &mut Vec<String>) {
    match ast.kind.as_ref() {
        Kind::Path(names) => out.push(names[0].text.to_lowercase()),
        Kind::Call(call) => {
            let rest = call.order_by.iter().map(|o| &o.expr).chain(call.having.iter().map(|(_, key)| key));
            call.args.iter().chain(rest).for_each(|a| mentioned(a, out));
        }
        Kind::Unary(_, a) | Kind::Field(a, _) | Kind::Is(a, _, _) => mentioned(a, out),
        Kind::Binary(_, a, b) | Kind::Index(a, _, b) => {
            mentioned(a, out);
            mentioned(b, out);
        }
        Kind::Cast(cast) => mentioned(&cast.value, out),
        Kind::Case(operand, branches, otherwise) => {
            operand.iter().chain(otherwise).for_each(|a| mentioned(a, out));
            branches.iter().for_each(|(a, b)| {
                mentioned(a, out);
                mentioned(b, out);
            });
        }
        Kind::Struct(_, fields) => fields.iter().for_each(|(a, _)| mentioned(a, out)),
        _ => {}
    }
}

impl Context<'_> {
    #[allow(clippy::too_many_arguments, reason = "the parts of the clause")]
    pub(super) fn pivot(
        &self,
        input: &From,
        aggregates: &[(Ast, Option<Name>)],
        column: &Ast,
        values: &[(Ast, Option<Name>)],
        alias: Option<&Name>,
        names: &Names,
        outer: Outer,
        left: Option<Rel>,
    ) -> Res<Rel> {
        let at = column.at;
        let columns = self.columns_of(input, names, outer)?;
        let mut used = Vec::new();
        mentioned(column, &mut used);
        aggregates.iter().for_each(|(a, _)| mentioned(a, &mut used));
        let keys: Vec<&String> = columns.iter().filter(|c| !used.contains(&c.to_lowercase())).collect();
        let mut items: Vec<Item> = keys.iter().map(|k| Item::Expr(path(k, at), None)).collect();
        for (value, label) in values {
            let label = match label {
                Some(label) => label.text.clone(),
                None => value_label(value).ok_or_else(|| {
                    invalid(format!("PIVOT values need aliases unless they are literals, at {}", names.place(value.at)))
                })?,
            };
            for (aggregate, prefix) in aggregates {
                let Kind::Call(call) = aggregate.kind.as_ref() else {
                    return Err(invalid(format!("PIVOT needs aggregate functions at {}", names.place(aggregate.at))));
                };
                let condition = node(at, Kind::Binary("IS NOT DISTINCT FROM", column.clone(), value.clone()));
                let mut call = call.clone();
                if call.args.first().is_some_and(|a| *a.kind == Kind::Star) {
                    call.name = vec![Name { text: "COUNTIF".into(), at }];
                    call.args = vec![condition];
                } else if let Some(first) = call.args.first_mut() {
                    if let Some((_, key)) = &mut call.having {
                        *key = named("IF", vec![condition.clone(), key.clone(), node(at, Kind::Null)], at);
                    }
                    *first = named("IF", vec![condition, first.clone(), node(at, Kind::Null)], at);
                }
                let name = match prefix {
                    Some(prefix) => format!("{}_{label}", prefix.text),
                    None if aggregates.len() > 1 => {
                        return Err(invalid("PIVOT with several aggregates needs aliases for them"));
                    }
                    None => label.clone(),
                };
                items.push(Item::Expr(node(at, Kind::Call(call)), Some(Name { text: name, at })));
            }
        }
        let group_by = if keys.is_empty() {
            GroupBy::None
        } else {
            GroupBy::Keys(keys.iter().map(|k| GroupItem::Key(path(k, at))).collect())
        };
        let select = Select { items, from: Some(input.clone()), group_by, ..empty(at) };
        self.as_table(&select, alias, names, outer, left)
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of the clause")]
    pub(super) fn unpivot(
        &self,
        input: &From,
        values: &[Name],
        name: &Name,
        columns: &[(Vec<Name>, Option<Ast>)],
        nulls: bool,
        alias: Option<&Name>,
        names: &Names,
        outer: Outer,
        left: Option<Rel>,
    ) -> Res<Rel> {
        let at = name.at;
        let row = "unpivot_row";
        let mut rows = Vec::new();
        let mut except = Vec::new();
        for (cols, label) in columns {
            if cols.len() != values.len() {
                return Err(invalid(format!("UNPIVOT column lists differ in length at {}", names.place(at))));
            }
            let mut fields: Vec<(Ast, Option<Name>)> =
                cols.iter().zip(values).map(|(c, v)| (path(&c.text, c.at), Some(v.clone()))).collect();
            let joined: Vec<&str> = cols.iter().map(|c| c.text.as_str()).collect();
            let label = label.clone().unwrap_or_else(|| node(at, Kind::Str(joined.join("_"))));
            fields.push((label, Some(name.clone())));
            rows.push(node(at, Kind::Struct(None, fields)));
            except.extend(cols.iter().cloned());
        }
        let known: Vec<String> = self.columns_of(input, names, outer)?;
        let dropped = |c: &String| except.iter().any(|e| e.text.eq_ignore_ascii_case(c));
        let mut items: Vec<Item> =
            known.iter().filter(|c| !dropped(c)).map(|c| Item::Expr(path(c, at), None)).collect();
        let field = |n: &Name| node(at, Kind::Path(vec![Name { text: row.into(), at }, n.clone()]));
        items.extend(values.iter().chain([name]).map(|n| Item::Expr(field(n), None)));
        let mut filter: Option<Ast> = None;
        if !nulls {
            for value in values {
                let present = node(at, Kind::Is(field(value), "NULL", true));
                filter = Some(match filter {
                    None => present,
                    Some(f) => node(at, Kind::Binary("OR", f, present)),
                });
            }
        }
        let array = From::Unnest {
            value: node(at, Kind::Array(None, rows)),
            alias: Some(Name { text: row.into(), at }),
            offset: None,
            at,
        };
        let from = From::Join {
            kind: JoinKind::Cross,
            left: Box::new(input.clone()),
            right: Box::new(array),
            on: None,
            using: vec![],
            at,
        };
        let select = Select { items, from: Some(from), filter, ..empty(at) };
        self.as_table(&select, alias, names, outer, left)
    }

    fn columns_of(&self, input: &From, names: &Names, outer: Outer) -> Res<Vec<String>> {
        let rel = self.from(input, names, Outer { base: None, ..outer }, None)?;
        Ok(star(&rel.scope).into_iter().map(|(n, _)| n).collect())
    }

    fn as_table(
        &self,
        select: &Select,
        alias: Option<&Name>,
        names: &Names,
        outer: Outer,
        left: Option<Rel>,
    ) -> Res<Rel> {
        if outer.base.is_some() {
            return Err(unsupported("PIVOT and UNPIVOT within a correlated subquery"));
        }
        let bound = self.select(select, names, outer, Tail { order_by: &[], limit: None, offset: None })?;
        self.beside(left, bound, vec![], alias.map(|a| a.text.clone()), outer, names, select.at)
    }
}

fn empty(at: usize) -> Select {
    Select {
        at,
        distinct: false,
        select_as: SelectAs::Plain,
        items: vec![],
        from: None,
        filter: None,
        group_by: GroupBy::None,
        having: None,
        qualify: None,
        windows: vec![],
    }
}

/// The name of the column for a value of PIVOT.
fn value_label(ast: &Ast) -> Option<String> {
    Some(match ast.kind.as_ref() {
        Kind::Str(text) => text.clone(),
        Kind::Int(text) => format!("_{}", text.replace('-', "minus_")),
        Kind::Bool(b) => b.to_string(),
        Kind::Null => "NULL".into(),
        Kind::Typed(_, text) => format!("_{}", text.replace('-', "_")),
        _ => return None,
    })
}
