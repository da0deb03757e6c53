//! CREATE, DROP and ALTER.

use super::ast::{
    Alter, Column, ColumnRest, CreateMode, CreateTable, Expr, ForeignKey, Function, Name, Path, Stmt, TableSource,
    TypeName,
};
use super::lex::Tok;
use super::parser::Parser;
use crate::bigquery::sql::error::Res;

/// What stands between the parentheses of CREATE TABLE.
#[derive(Default)]
pub struct Elements {
    pub columns: Vec<Column>,
    pub primary_key: Vec<Name>,
    pub foreign_keys: Vec<ForeignKey>,
}

impl Parser<'_> {
    pub fn create(&mut self) -> Res<Stmt> {
        self.advance();
        let mut mode = CreateMode { or_replace: self.eat_words("OR REPLACE"), ..CreateMode::default() };
        mode.temp = self.eat_words("TEMP") || self.eat_words("TEMPORARY");
        if self.eat_words("SNAPSHOT TABLE") {
            return self.create_snapshot(mode);
        }
        if self.eat_words("TABLE") {
            if self.is_word("FUNCTION") {
                return Err(self.error("CREATE TABLE FUNCTION is not supported by the sandbox"));
            }
            return self.create_table(mode);
        }
        if self.eat_words("VIEW") {
            return self.create_view(mode, false);
        }
        if self.eat_words("MATERIALIZED VIEW") {
            return self.create_view(mode, true);
        }
        if self.eat_words("SCHEMA") {
            let path = self.create_path(&mut mode)?;
            let collate = if self.eat_words("DEFAULT COLLATE") { Some(self.string()?) } else { None };
            let options = self.options()?;
            return Ok(Stmt::CreateSchema { mode, path, options, collate });
        }
        if self.is_word("FUNCTION") || self.are_words("AGGREGATE FUNCTION") {
            return self.create_function(mode);
        }
        if self.eat_words("ROW ACCESS POLICY") {
            return self.create_policy(mode);
        }
        Err(self.unexpected())
    }

    fn create_path(&mut self, mode: &mut CreateMode) -> Res<Path> {
        mode.if_not_exists = self.eat_words("IF NOT EXISTS");
        self.path()
    }

    fn create_snapshot(&mut self, mut mode: CreateMode) -> Res<Stmt> {
        let path = self.create_path(&mut mode)?;
        self.expect_words("CLONE")?;
        let source = self.path()?;
        let as_of = self.as_of()?;
        let options = self.options()?;
        Ok(Stmt::CreateTable(Box::new(CreateTable {
            mode,
            path,
            columns: None,
            primary_key: vec![],
            foreign_keys: vec![],
            partition_by: None,
            cluster_by: vec![],
            options,
            collate: None,
            source: TableSource::Snapshot(source, as_of),
        })))
    }

    fn create_table(&mut self, mut mode: CreateMode) -> Res<Stmt> {
        let path = self.create_path(&mut mode)?;
        let mut source = TableSource::None;
        if self.eat_words("LIKE") {
            source = TableSource::Like(self.path()?, None);
        } else if self.eat_words("COPY") {
            source = TableSource::Copy(self.path()?);
        } else if self.eat_words("CLONE") {
            let from = self.path()?;
            source = TableSource::Clone(from, self.as_of()?);
        }
        let mut elements = Elements::default();
        let has_columns = self.is_symbol("(");
        if has_columns {
            elements = self.table_elements()?;
        }
        let collate = if self.eat_words("DEFAULT COLLATE") { Some(self.string()?) } else { None };
        let partition_by = if self.eat_words("PARTITION BY") { Some(self.expr()?) } else { None };
        let cluster_by = if self.eat_words("CLUSTER BY") { self.list(Self::any_name)? } else { vec![] };
        if self.eat_words("WITH CONNECTION") {
            self.path()?;
        }
        let options = self.options()?;
        if self.eat_words("AS") {
            let query = Box::new(self.query()?);
            source = match source {
                TableSource::None => TableSource::Query(query),
                TableSource::Like(like, _) => TableSource::Like(like, Some(query)),
                _ => return Err(self.error("Unexpected keyword AS")),
            };
        }
        Ok(Stmt::CreateTable(Box::new(CreateTable {
            mode,
            path,
            columns: has_columns.then_some(elements.columns),
            primary_key: elements.primary_key,
            foreign_keys: elements.foreign_keys,
            partition_by,
            cluster_by,
            options,
            collate,
            source,
        })))
    }

    pub fn table_elements(&mut self) -> Res<Elements> {
        let mut elements = Elements::default();
        self.expect_symbol("(")?;
        while !self.is_symbol(")") {
            if self.are_words("PRIMARY KEY") {
                self.eat_words("PRIMARY KEY");
                elements.primary_key = self.parenthesised(Self::any_name)?;
                self.not_enforced()?;
            } else if self.are_words("FOREIGN KEY") || self.is_word("CONSTRAINT") {
                let key = self.foreign_key(&mut elements.primary_key)?;
                elements.foreign_keys.extend(key);
            } else {
                elements.columns.push(self.column()?);
            }
            if !self.eat_symbol(",") {
                break;
            }
        }
        self.expect_symbol(")")?;
        Ok(elements)
    }

    fn not_enforced(&mut self) -> Res<()> {
        self.expect_words("NOT ENFORCED")
    }

    /// `[CONSTRAINT name] FOREIGN KEY (...) REFERENCES t(...) NOT ENFORCED`; a named primary key goes to `primary_key`.
    fn foreign_key(&mut self, primary_key: &mut Vec<Name>) -> Res<Option<ForeignKey>> {
        let mut name = None;
        if self.eat_words("CONSTRAINT") {
            self.eat_words("IF NOT EXISTS");
            name = Some(self.any_name()?.text);
        }
        if self.eat_words("PRIMARY KEY") {
            *primary_key = self.parenthesised(Self::any_name)?;
            self.not_enforced()?;
            return Ok(None);
        }
        self.expect_words("FOREIGN KEY")?;
        let columns = self.parenthesised(Self::any_name)?;
        self.expect_words("REFERENCES")?;
        let table = self.path()?;
        let references = self.parenthesised(Self::any_name)?;
        self.not_enforced()?;
        Ok(Some(ForeignKey { name, columns, table, references }))
    }

    pub fn column(&mut self) -> Res<Column> {
        let name = self.any_name()?;
        let typed = matches!(self.token(0), Tok::Word(w) if !matches!(w.to_uppercase().as_str(), "NOT" | "OPTIONS" | "DEFAULT"));
        let kind = if typed { Some(self.type_name()?) } else { None };
        Ok(Column { name, kind, rest: self.column_rest()? })
    }

    pub fn column_rest(&mut self) -> Res<ColumnRest> {
        let mut rest = ColumnRest::default();
        loop {
            if self.eat_words("NOT NULL") {
                rest.not_null = true;
            } else if self.eat_words("DEFAULT") {
                rest.default = Some(self.expr_with_text().map(|(text, value)| (text, Box::new(value)))?);
            } else if self.eat_words("COLLATE") {
                rest.collate = Some(self.string()?);
            } else if self.eat_words("PRIMARY KEY") {
                rest.primary_key = true;
                self.not_enforced()?;
            } else if self.eat_words("REFERENCES") {
                let table = self.path()?;
                rest.references = Some((table, self.parenthesised(Self::any_name)?));
                self.not_enforced()?;
            } else if self.is_word("OPTIONS") {
                rest.options = self.options()?;
            } else {
                return Ok(rest);
            }
        }
    }

    fn expr_with_text(&mut self) -> Res<(String, Expr)> {
        let start = self.pos();
        let value = self.expr()?;
        Ok((self.skip_to_text(start), value))
    }

    /// `OPTIONS(a = 1, b = 'x')`, or nothing.
    pub fn options(&mut self) -> Res<Vec<(Name, Expr)>> {
        if self.eat_words("OPTIONS") { self.option_list() } else { Ok(vec![]) }
    }

    pub fn option_list(&mut self) -> Res<Vec<(Name, Expr)>> {
        self.expect_symbol("(")?;
        let mut out = Vec::new();
        while !self.is_symbol(")") {
            let name = self.any_name()?;
            self.expect_symbol("=")?;
            out.push((name, self.expr()?));
            if !self.eat_symbol(",") {
                break;
            }
        }
        self.expect_symbol(")")?;
        Ok(out)
    }

    fn create_view(&mut self, mut mode: CreateMode, materialized: bool) -> Res<Stmt> {
        let path = self.create_path(&mut mode)?;
        let columns = if self.is_symbol("(") {
            self.parenthesised(|p| {
                let name = p.any_name()?;
                Ok((name, p.options()?))
            })?
        } else {
            vec![]
        };
        let partition_by = if self.eat_words("PARTITION BY") { Some(self.expr()?) } else { None };
        let cluster_by = if self.eat_words("CLUSTER BY") { self.list(Self::any_name)? } else { vec![] };
        let options = self.options()?;
        self.expect_words("AS")?;
        let start = self.pos();
        let query = Box::new(self.query()?);
        let text = self.skip_to_text(start);
        Ok(Stmt::CreateView { mode, path, columns, options, partition_by, cluster_by, query, text, materialized })
    }

    fn create_function(&mut self, mut mode: CreateMode) -> Res<Stmt> {
        let aggregate = self.eat_words("AGGREGATE");
        self.expect_words("FUNCTION")?;
        let path = self.create_path(&mut mode)?;
        self.expect_symbol("(")?;
        let arguments = if self.is_symbol(")") {
            vec![]
        } else {
            self.list(|p| {
                let name = p.any_name()?;
                let kind = p.type_name()?;
                p.eat_words("NOT AGGREGATE");
                Ok((name, kind))
            })?
        };
        self.expect_symbol(")")?;
        let returns = if self.eat_words("RETURNS") { Some(self.type_name()?) } else { None };
        let mut language = "SQL".to_owned();
        let mut options = vec![];
        loop {
            if self.eat_words("LANGUAGE") {
                language = self.any_name()?.text;
            } else if self.eat_words("DETERMINISTIC") || self.eat_words("NOT DETERMINISTIC") {
            } else if self.is_word("OPTIONS") {
                options.extend(self.options()?);
            } else {
                break;
            }
        }
        self.expect_words("AS")?;
        let body = if language.eq_ignore_ascii_case("SQL") {
            self.expect_symbol("(")?;
            let (text, _) = self.expr_with_text()?;
            self.expect_symbol(")")?;
            text
        } else {
            self.string()?
        };
        options.extend(self.options()?);
        Ok(Stmt::CreateFunction(Box::new(Function {
            mode,
            path,
            arguments,
            returns,
            language,
            body,
            options,
            aggregate,
        })))
    }

    fn create_policy(&mut self, mut mode: CreateMode) -> Res<Stmt> {
        mode.if_not_exists = self.eat_words("IF NOT EXISTS");
        let name = self.any_name()?;
        self.expect_words("ON")?;
        let table = self.path()?;
        let mut grantees = vec![];
        if self.eat_words("GRANT TO") {
            grantees = self.parenthesised(Self::string)?;
        }
        self.expect_words("FILTER USING")?;
        self.expect_symbol("(")?;
        let (filter, _) = self.expr_with_text()?;
        self.expect_symbol(")")?;
        Ok(Stmt::CreateRowAccessPolicy { mode, name, table, grantees, filter })
    }

    pub fn drop_statement(&mut self) -> Res<Stmt> {
        self.advance();
        if self.eat_words("ALL ROW ACCESS POLICIES ON") {
            return Ok(Stmt::DropRowAccessPolicy { name: None, table: self.path()?, if_exists: false });
        }
        if self.eat_words("ROW ACCESS POLICY") {
            let if_exists = self.eat_words("IF EXISTS");
            let name = Some(self.any_name()?);
            self.expect_words("ON")?;
            return Ok(Stmt::DropRowAccessPolicy { name, table: self.path()?, if_exists });
        }
        const KINDS: [&str; 9] = [
            "SNAPSHOT TABLE",
            "EXTERNAL TABLE",
            "TABLE FUNCTION",
            "TABLE",
            "MATERIALIZED VIEW",
            "VIEW",
            "SCHEMA",
            "FUNCTION",
            "PROCEDURE",
        ];
        let kind = KINDS.into_iter().find(|k| self.eat_words(k)).ok_or_else(|| self.unexpected())?.to_owned();
        let if_exists = self.eat_words("IF EXISTS");
        let path = self.path()?;
        let cascade = self.eat_words("CASCADE");
        if !cascade {
            self.eat_words("RESTRICT");
        }
        Ok(Stmt::Drop { kind, path, if_exists, cascade })
    }

    pub fn alter(&mut self) -> Res<Stmt> {
        self.advance();
        let kind = ["TABLE", "MATERIALIZED VIEW", "VIEW", "SCHEMA"].into_iter().find(|k| self.eat_words(k));
        let kind = kind.ok_or_else(|| self.unexpected())?.to_owned();
        let if_exists = self.eat_words("IF EXISTS");
        let path = self.path()?;
        let actions = self.list(Self::alter_action)?;
        Ok(Stmt::Alter { kind, path, if_exists, actions })
    }

    fn alter_action(&mut self) -> Res<Alter> {
        if self.eat_words("SET OPTIONS") {
            return Ok(Alter::SetOptions(self.option_list()?));
        }
        if self.eat_words("SET DEFAULT COLLATE") {
            return Ok(Alter::SetCollate(self.string()?));
        }
        if self.eat_words("ADD COLUMN") {
            let if_not_exists = self.eat_words("IF NOT EXISTS");
            return Ok(Alter::AddColumn { column: self.column()?, if_not_exists });
        }
        if self.eat_words("ADD PRIMARY KEY") {
            let columns = self.parenthesised(Self::any_name)?;
            self.not_enforced()?;
            return Ok(Alter::AddPrimaryKey(columns));
        }
        if self.is_word("ADD") && (self.word_at(1, "CONSTRAINT") || self.word_at(1, "FOREIGN")) {
            self.advance();
            let mut primary = vec![];
            return Ok(match self.foreign_key(&mut primary)? {
                Some(key) => Alter::AddForeignKey(key),
                None => Alter::AddPrimaryKey(primary),
            });
        }
        if self.eat_words("DROP PRIMARY KEY") {
            self.eat_words("IF EXISTS");
            return Ok(Alter::DropPrimaryKey);
        }
        if self.eat_words("DROP CONSTRAINT") {
            let if_exists = self.eat_words("IF EXISTS");
            return Ok(Alter::DropConstraint { name: self.any_name()?, if_exists });
        }
        if self.eat_words("DROP COLUMN") {
            let if_exists = self.eat_words("IF EXISTS");
            return Ok(Alter::DropColumn { name: self.any_name()?, if_exists });
        }
        if self.eat_words("RENAME COLUMN") {
            let if_exists = self.eat_words("IF EXISTS");
            let name = self.any_name()?;
            self.expect_words("TO")?;
            return Ok(Alter::RenameColumn { name, to: self.any_name()?, if_exists });
        }
        if self.eat_words("RENAME TO") {
            return Ok(Alter::RenameTo(self.any_name()?));
        }
        if self.eat_words("ALTER COLUMN") {
            return self.alter_column();
        }
        Err(self.unexpected())
    }

    fn alter_column(&mut self) -> Res<Alter> {
        let if_exists = self.eat_words("IF EXISTS");
        let name = self.any_name()?;
        if self.eat_words("SET OPTIONS") {
            return Ok(Alter::SetColumnOptions { name, options: self.option_list()?, if_exists });
        }
        if self.eat_words("DROP NOT NULL") {
            return Ok(Alter::DropNotNull { name, if_exists });
        }
        if self.eat_words("DROP DEFAULT") {
            return Ok(Alter::DropDefault { name, if_exists });
        }
        if self.eat_words("SET DEFAULT") {
            let (text, value) = self.expr_with_text()?;
            return Ok(Alter::SetDefault { name, text, value, if_exists });
        }
        self.expect_words("SET DATA TYPE")?;
        let kind: TypeName = self.type_name()?;
        Ok(Alter::SetDataType { name, kind, if_exists })
    }
}
