//! Statements: the script's level, INSERT, UPDATE, DELETE, MERGE, variables.

use super::ast::{InsertSource, MergeDo, MergeWhen, Name, Stmt};
use super::lex::Tok;
use super::parser::Parser;
use crate::bigquery::sql::error::Res;

impl Parser<'_> {
    /// Statements up to the end, or up to one of the words (which is not taken).
    pub fn statements(&mut self, until: &[&str]) -> Res<Vec<Stmt>> {
        let mut out = Vec::new();
        loop {
            while self.eat_symbol(";") {}
            if *self.token(0) == Tok::End || until.iter().any(|w| self.are_words(w)) {
                return Ok(out);
            }
            out.push(self.deeper(Self::statement)?);
            if *self.token(0) != Tok::End && !self.is_symbol(";") {
                return Err(self.expected("end of input"));
            }
        }
    }

    fn statement(&mut self) -> Res<Stmt> {
        let Tok::Word(word) = self.token(0).clone() else {
            return if self.is_symbol("(") { Ok(Stmt::Query(self.query()?)) } else { Err(self.unexpected()) };
        };
        match word.to_uppercase().as_str() {
            "SELECT" | "WITH" | "FROM" => Ok(Stmt::Query(self.query()?)),
            "INSERT" => self.insert(),
            "UPDATE" => self.update(),
            "DELETE" => self.delete(),
            "MERGE" => self.merge(),
            "TRUNCATE" => {
                self.advance();
                self.expect_words("TABLE")?;
                Ok(Stmt::Truncate { table: self.path()? })
            }
            "CREATE" => self.create(),
            "DROP" => self.drop_statement(),
            "ALTER" => self.alter(),
            "EXPORT" => self.export(),
            "LOAD" => self.load(),
            "GRANT" | "REVOKE" => self.grant(),
            "DECLARE" => self.declare(),
            "SET" => self.set(),
            "ASSERT" => {
                self.advance();
                let value = self.expr()?;
                let message = if self.eat_words("AS") { Some(self.string()?) } else { None };
                Ok(Stmt::Assert { value, message })
            }
            "EXECUTE" => self.execute(),
            "BEGIN" => self.begin(),
            "COMMIT" => self.nothing("COMMIT_TRANSACTION"),
            "ROLLBACK" => Err(self.error("ROLLBACK TRANSACTION is not supported by the sandbox")),
            "IF" => self.if_statement(),
            "WHILE" => {
                self.advance();
                let condition = self.expr()?;
                self.expect_words("DO")?;
                let body = self.statements(&["END"])?;
                self.expect_words("END WHILE")?;
                Ok(Stmt::While { condition, body })
            }
            _ => Err(self.unexpected()),
        }
    }

    fn nothing(&mut self, kind: &'static str) -> Res<Stmt> {
        self.advance();
        self.eat_words("TRANSACTION");
        Ok(Stmt::Nothing(kind))
    }

    fn begin(&mut self) -> Res<Stmt> {
        if self.word_at(1, "TRANSACTION") || self.symbol_at(1, ";") || *self.token(1) == Tok::End {
            return self.nothing("BEGIN_TRANSACTION");
        }
        self.advance();
        let body = self.statements(&["END", "EXCEPTION"])?;
        if self.is_word("EXCEPTION") {
            return Err(self.error("EXCEPTION blocks are not supported by the sandbox"));
        }
        self.expect_words("END")?;
        Ok(Stmt::Block { body })
    }

    fn if_statement(&mut self) -> Res<Stmt> {
        self.advance();
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let condition = self.expr()?;
            self.expect_words("THEN")?;
            branches.push((condition, self.statements(&["ELSEIF", "ELSE", "END IF"])?));
            if self.eat_words("ELSEIF") {
                continue;
            }
            if self.eat_words("ELSE") {
                otherwise = self.statements(&["END IF"])?;
            }
            self.expect_words("END IF")?;
            return Ok(Stmt::If { branches, otherwise });
        }
    }

    fn declare(&mut self) -> Res<Stmt> {
        self.advance();
        let names = self.list(Self::name)?;
        let kind = if self.is_word("DEFAULT") { None } else { Some(self.type_name()?) };
        let default = if self.eat_words("DEFAULT") { Some(self.expr()?) } else { None };
        Ok(Stmt::Declare { names, kind, default })
    }

    fn set(&mut self) -> Res<Stmt> {
        self.advance();
        if let Tok::SystemVariable(_) = self.token(0) {
            self.expr()?;
            return Ok(Stmt::Nothing("SET"));
        }
        let names = if self.is_symbol("(") { self.parenthesised(Self::name)? } else { vec![self.name()?] };
        self.expect_symbol("=")?;
        Ok(Stmt::Set { names, value: self.expr()? })
    }

    fn execute(&mut self) -> Res<Stmt> {
        self.advance();
        self.expect_words("IMMEDIATE")?;
        let sql = self.expr()?;
        let into = if self.eat_words("INTO") { self.list(Self::name)? } else { vec![] };
        let using = if self.eat_words("USING") {
            self.list(|p| {
                let value = p.expr()?;
                let name = if p.eat_words("AS") { Some(p.name()?) } else { None };
                Ok((value, name))
            })?
        } else {
            vec![]
        };
        Ok(Stmt::ExecuteImmediate { sql, into, using })
    }

    fn insert(&mut self) -> Res<Stmt> {
        self.advance();
        self.eat_words("INTO");
        let table = self.path()?;
        let columns =
            if self.is_symbol("(") && !self.query_follows() { self.parenthesised(Self::any_name)? } else { vec![] };
        if self.eat_words("VALUES") {
            let rows = self.list(|p| p.parenthesised(Self::expr))?;
            return Ok(Stmt::Insert { table, columns, source: InsertSource::Values(rows) });
        }
        if self.eat_words("ROW") {
            let row = self.parenthesised(Self::expr)?;
            return Ok(Stmt::Insert { table, columns, source: InsertSource::Values(vec![row]) });
        }
        Ok(Stmt::Insert { table, columns, source: InsertSource::Query(Box::new(self.query()?)) })
    }

    fn assignment(&mut self) -> Res<(Vec<Name>, super::ast::Expr)> {
        let mut path = vec![self.name()?];
        while self.eat_symbol(".") {
            path.push(self.any_name()?);
        }
        self.expect_symbol("=")?;
        Ok((path, self.expr()?))
    }

    fn update(&mut self) -> Res<Stmt> {
        self.advance();
        let table = self.path()?;
        let alias = self.alias()?;
        self.expect_words("SET")?;
        let set = self.list(Self::assignment)?;
        let from = if self.eat_words("FROM") { Some(self.from()?) } else { None };
        if !self.is_word("WHERE") {
            return Err(self.error("UPDATE must have a WHERE clause"));
        }
        self.advance();
        Ok(Stmt::Update { table, alias, set, from, filter: self.expr()? })
    }

    fn delete(&mut self) -> Res<Stmt> {
        self.advance();
        self.eat_words("FROM");
        let table = self.path()?;
        let alias = self.alias()?;
        if !self.is_word("WHERE") {
            return Err(self.error("DELETE must have a WHERE clause"));
        }
        self.advance();
        Ok(Stmt::Delete { table, alias, filter: self.expr()? })
    }

    fn merge(&mut self) -> Res<Stmt> {
        self.advance();
        self.eat_words("INTO");
        let table = self.path()?;
        let alias = self.alias()?;
        self.expect_words("USING")?;
        let source = self.from()?;
        self.expect_words("ON")?;
        let on = self.expr()?;
        let mut clauses = Vec::new();
        while self.eat_words("WHEN") {
            let when = if self.eat_words("NOT MATCHED") {
                if self.eat_words("BY SOURCE") {
                    MergeWhen::NotMatchedBySource
                } else {
                    self.eat_words("BY TARGET");
                    MergeWhen::NotMatched
                }
            } else {
                self.expect_words("MATCHED")?;
                MergeWhen::Matched
            };
            let condition = if self.eat_words("AND") { Some(self.expr()?) } else { None };
            self.expect_words("THEN")?;
            let action = if self.eat_words("DELETE") {
                MergeDo::Delete
            } else if self.eat_words("UPDATE") {
                self.expect_words("SET")?;
                MergeDo::Update(self.list(Self::assignment)?)
            } else {
                self.expect_words("INSERT")?;
                let columns = if self.is_symbol("(") { self.parenthesised(Self::any_name)? } else { vec![] };
                if self.eat_words("ROW") {
                    MergeDo::Insert(columns, None)
                } else {
                    self.expect_words("VALUES")?;
                    MergeDo::Insert(columns, Some(self.parenthesised(Self::expr)?))
                }
            };
            clauses.push((when, condition, action));
        }
        if clauses.is_empty() {
            return Err(self.expected("keyword WHEN"));
        }
        Ok(Stmt::Merge { table, alias, source, on, clauses })
    }

    fn export(&mut self) -> Res<Stmt> {
        self.advance();
        self.expect_words("DATA")?;
        if self.eat_words("WITH CONNECTION") {
            self.path()?;
        }
        let options = self.options()?;
        self.expect_words("AS")?;
        Ok(Stmt::ExportData { options, query: Box::new(self.query()?) })
    }

    fn load(&mut self) -> Res<Stmt> {
        self.advance();
        self.expect_words("DATA")?;
        let overwrite = self.eat_words("OVERWRITE");
        if !overwrite {
            self.expect_words("INTO")?;
        }
        let path = self.path()?;
        let columns = if self.is_symbol("(") { Some(self.table_elements()?.columns) } else { None };
        let partition_by = if self.eat_words("PARTITION BY") { Some(self.expr()?) } else { None };
        let cluster_by = if self.eat_words("CLUSTER BY") { self.list(Self::name)? } else { vec![] };
        let options = self.options()?;
        self.expect_words("FROM FILES")?;
        let files = self.option_list()?;
        Ok(Stmt::LoadData { overwrite, path, columns, partition_by, cluster_by, options, files })
    }

    fn grant(&mut self) -> Res<Stmt> {
        let revoke = self.is_word("REVOKE");
        self.advance();
        let roles = self.list(|p| Ok(p.any_name()?.text))?;
        self.expect_words("ON")?;
        let kind = ["TABLE", "VIEW", "SCHEMA", "EXTERNAL TABLE"].into_iter().find(|w| self.eat_words(w));
        let kind = kind.ok_or_else(|| self.unexpected())?.to_owned();
        let path = self.path()?;
        self.expect_words(if revoke { "FROM" } else { "TO" })?;
        let members = self.list(Self::string)?;
        Ok(Stmt::Grant { roles, kind, path, members, revoke })
    }
}
