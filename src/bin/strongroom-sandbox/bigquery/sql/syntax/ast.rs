//! The syntax trees. Positions are byte offsets into the script.

/// An identifier and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    pub text: String,
    pub at: usize,
}

/// The dotted name of a table, routine, dataset, ... with every part split at dots, also inside back quotes.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    pub parts: Vec<String>,
    pub at: usize,
}

/// A type as written.
#[derive(Debug, Clone, PartialEq)]
pub enum TypeName {
    /// Upper-case name and parameters (`NUMERIC(10, 2)`, `STRING(5)`).
    Simple(String, Vec<u64>),
    Array(Box<TypeName>),
    Struct(Vec<(Option<String>, TypeName, ColumnRest)>),
    Range(Box<TypeName>),
    /// `ANY TYPE`, in functions.
    Any,
}

/// What may follow a column's type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ColumnRest {
    pub not_null: bool,
    /// The default expression's text and tree.
    pub default: Option<(String, Box<Expr>)>,
    pub options: Vec<(Name, Expr)>,
    pub collate: Option<String>,
    pub primary_key: bool,
    pub references: Option<(Path, Vec<Name>)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub at: usize,
    pub kind: Box<Kind>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Null,
    Bool(bool),
    Int(String),
    Float(String),
    Str(String),
    Bytes(Vec<u8>),
    /// `DATE '2024-01-01'`, `NUMERIC '1'`, `JSON '{}'`: upper-case type name and text.
    Typed(TypeName, String),
    Param(String),
    /// `?`, counted from zero.
    Positional(usize),
    SystemVariable(String),
    /// A name that may be followed by fields: `t.a.b`.
    Path(Vec<Name>),
    Field(Expr, Name),
    /// `x[OFFSET(1)]`: the word in upper case, empty for a bare `x[1]`.
    Index(Expr, String, Expr),
    Unary(&'static str, Expr),
    /// The operator as a symbol or upper-case words (`AND`, `IS DISTINCT FROM`, ...).
    Binary(&'static str, Expr, Expr),
    /// `IS [NOT] NULL | TRUE | FALSE | UNKNOWN`: the word and `NOT`.
    Is(Expr, &'static str, bool),
    Between(Expr, Expr, Expr, bool),
    In(Expr, InSet, bool),
    /// LIKE; with a quantifier (`ANY`, `ALL`, empty for none) over patterns.
    Like(Expr, &'static str, Vec<Expr>, bool),
    Case(Option<Expr>, Vec<(Expr, Expr)>, Option<Expr>),
    Cast(Cast),
    /// Part (`WEEK(MONDAY)` as text), value, time zone.
    Extract(String, Expr, Option<Expr>),
    /// Value, from part, to part.
    Interval(Expr, String, Option<String>),
    Call(Call),
    Array(Option<TypeName>, Vec<Expr>),
    ArrayQuery(Box<Query>),
    /// Declared fields of `STRUCT<...>`, values with aliases.
    Struct(Option<TypeName>, Vec<(Expr, Option<Name>)>),
    Query(Box<Query>),
    Exists(Box<Query>),
    /// `COUNT(*)`'s argument.
    Star,
    /// `x -> expr`, `(x, y) -> expr`.
    Lambda(Vec<Name>, Expr),
    /// `name => value`.
    Named(Name, Expr),
    /// `DEFAULT` as a value of INSERT and UPDATE.
    Default,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Cast {
    pub value: Expr,
    pub to: TypeName,
    pub safe: bool,
    pub format: Option<Expr>,
    pub zone: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum InSet {
    List(Vec<Expr>),
    Unnest(Expr),
    Query(Box<Query>),
}

/// A function call with all that can stand in and after its parentheses.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// As written; `SAFE.` is taken off.
    pub name: Vec<Name>,
    pub safe: bool,
    pub distinct: bool,
    pub args: Vec<Expr>,
    /// `Some(true)` = IGNORE NULLS, `Some(false)` = RESPECT NULLS.
    pub ignore_nulls: Option<bool>,
    /// `HAVING MAX x` (true) or `HAVING MIN x`.
    pub having: Option<(bool, Expr)>,
    pub order_by: Vec<OrderItem>,
    pub limit: Option<Expr>,
    pub over: Option<Window>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct OrderItem {
    pub expr: Expr,
    pub desc: bool,
    pub nulls_first: Option<bool>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    pub base: Option<Name>,
    pub partition_by: Vec<Expr>,
    pub order_by: Vec<OrderItem>,
    pub frame: Option<Frame>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// ROWS, otherwise RANGE.
    pub rows: bool,
    pub start: Bound,
    pub end: Bound,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    UnboundedPreceding,
    Preceding(Expr),
    CurrentRow,
    Following(Expr),
    UnboundedFollowing,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub at: usize,
    pub recursive: bool,
    pub with: Vec<(Name, Query)>,
    pub body: SetExpr,
    pub order_by: Vec<OrderItem>,
    pub limit: Option<Expr>,
    pub offset: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SetExpr {
    Select(Box<Select>),
    Query(Box<Query>),
    /// UNION, INTERSECT or EXCEPT; ALL or DISTINCT.
    Set {
        op: &'static str,
        all: bool,
        left: Box<SetExpr>,
        right: Box<SetExpr>,
        at: usize,
    },
}

/// SELECT AS STRUCT, SELECT AS VALUE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectAs {
    Plain,
    Struct,
    Value,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    pub at: usize,
    pub distinct: bool,
    pub select_as: SelectAs,
    pub items: Vec<Item>,
    pub from: Option<From>,
    pub filter: Option<Expr>,
    pub group_by: GroupBy,
    pub having: Option<Expr>,
    pub qualify: Option<Expr>,
    pub windows: Vec<(Name, Window)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Expr(Expr, Option<Name>),
    /// `*` or `expr.*`, EXCEPT, REPLACE.
    Star {
        of: Option<Expr>,
        except: Vec<Name>,
        replace: Vec<(Expr, Name)>,
        at: usize,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum GroupBy {
    None,
    All,
    /// Each element is a list of alternatives of keys; plain keys have just one alternative of one key.
    Keys(Vec<GroupItem>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum GroupItem {
    Key(Expr),
    Rollup(Vec<Vec<Expr>>),
    Cube(Vec<Vec<Expr>>),
    Sets(Vec<GroupItem>),
    /// `(a, b)` within GROUPING SETS.
    Tuple(Vec<Expr>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum From {
    Table {
        path: Path,
        names: Vec<Name>,
        alias: Option<Name>,
        as_of: Option<Expr>,
        offset: Option<Name>,
        sample: Option<Expr>,
    },
    Query {
        query: Box<Query>,
        alias: Option<Name>,
    },
    Unnest {
        value: Expr,
        alias: Option<Name>,
        offset: Option<Name>,
        at: usize,
    },
    /// A table function of ours (none yet) or of the catalog.
    Function {
        name: Vec<Name>,
        args: Vec<Expr>,
        alias: Option<Name>,
        at: usize,
    },
    Join {
        kind: JoinKind,
        left: Box<From>,
        right: Box<From>,
        on: Option<Expr>,
        using: Vec<Name>,
        at: usize,
    },
    Pivot {
        input: Box<From>,
        aggregates: Vec<(Expr, Option<Name>)>,
        column: Expr,
        values: Vec<(Expr, Option<Name>)>,
        alias: Option<Name>,
    },
    Unpivot {
        input: Box<From>,
        values: Vec<Name>,
        name: Name,
        columns: Vec<(Vec<Name>, Option<Expr>)>,
        nulls: bool,
        alias: Option<Name>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    Cross,
    /// A comma: binds weaker than JOIN, means CROSS.
    Comma,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: Name,
    pub kind: Option<TypeName>,
    pub rest: ColumnRest,
}

/// What stands between CREATE and the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CreateMode {
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub temp: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    pub mode: CreateMode,
    pub path: Path,
    /// `None` when there is no column list.
    pub columns: Option<Vec<Column>>,
    pub primary_key: Vec<Name>,
    pub foreign_keys: Vec<ForeignKey>,
    pub partition_by: Option<Expr>,
    pub cluster_by: Vec<Name>,
    pub options: Vec<(Name, Expr)>,
    pub collate: Option<String>,
    pub source: TableSource,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ForeignKey {
    pub name: Option<String>,
    pub columns: Vec<Name>,
    pub table: Path,
    pub references: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TableSource {
    None,
    Query(Box<Query>),
    Like(Path, Option<Box<Query>>),
    Copy(Path),
    Clone(Path, Option<Expr>),
    /// CREATE SNAPSHOT TABLE ... CLONE.
    Snapshot(Path, Option<Expr>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Alter {
    SetOptions(Vec<(Name, Expr)>),
    AddColumn { column: Column, if_not_exists: bool },
    DropColumn { name: Name, if_exists: bool },
    RenameColumn { name: Name, to: Name, if_exists: bool },
    RenameTo(Name),
    SetColumnOptions { name: Name, options: Vec<(Name, Expr)>, if_exists: bool },
    DropNotNull { name: Name, if_exists: bool },
    SetDataType { name: Name, kind: TypeName, if_exists: bool },
    SetDefault { name: Name, text: String, value: Expr, if_exists: bool },
    DropDefault { name: Name, if_exists: bool },
    SetCollate(String),
    AddPrimaryKey(Vec<Name>),
    DropPrimaryKey,
    AddForeignKey(ForeignKey),
    DropConstraint { name: Name, if_exists: bool },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    pub mode: CreateMode,
    pub path: Path,
    pub arguments: Vec<(Name, TypeName)>,
    pub returns: Option<TypeName>,
    /// SQL, or `js` and the like.
    pub language: String,
    /// The expression's text, or the code.
    pub body: String,
    pub options: Vec<(Name, Expr)>,
    pub aggregate: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum MergeWhen {
    /// `WHEN MATCHED`, `NOT MATCHED [BY TARGET]`, `NOT MATCHED BY SOURCE`.
    Matched,
    NotMatched,
    NotMatchedBySource,
}

#[derive(Debug, Clone, PartialEq)]
pub enum MergeDo {
    Update(Vec<(Vec<Name>, Expr)>),
    Delete,
    /// Columns (empty = all) and values; `None` = ROW.
    Insert(Vec<Name>, Option<Vec<Expr>>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum InsertSource {
    Values(Vec<Vec<Expr>>),
    Query(Box<Query>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Stmt {
    Query(Query),
    Insert {
        table: Path,
        columns: Vec<Name>,
        source: InsertSource,
    },
    Update {
        table: Path,
        alias: Option<Name>,
        set: Vec<(Vec<Name>, Expr)>,
        from: Option<From>,
        filter: Expr,
    },
    Delete {
        table: Path,
        alias: Option<Name>,
        filter: Expr,
    },
    Merge {
        table: Path,
        alias: Option<Name>,
        source: From,
        on: Expr,
        clauses: Vec<(MergeWhen, Option<Expr>, MergeDo)>,
    },
    Truncate {
        table: Path,
    },
    CreateTable(Box<CreateTable>),
    CreateView {
        mode: CreateMode,
        path: Path,
        columns: Vec<(Name, Vec<(Name, Expr)>)>,
        options: Vec<(Name, Expr)>,
        partition_by: Option<Expr>,
        cluster_by: Vec<Name>,
        query: Box<Query>,
        text: String,
        materialized: bool,
    },
    CreateSchema {
        mode: CreateMode,
        path: Path,
        options: Vec<(Name, Expr)>,
        collate: Option<String>,
    },
    CreateFunction(Box<Function>),
    CreateRowAccessPolicy {
        mode: CreateMode,
        name: Name,
        table: Path,
        grantees: Vec<String>,
        filter: String,
    },
    DropRowAccessPolicy {
        name: Option<Name>,
        table: Path,
        if_exists: bool,
    },
    /// Upper-case kind: TABLE, SNAPSHOT TABLE, VIEW, SCHEMA, FUNCTION, ...
    Drop {
        kind: String,
        path: Path,
        if_exists: bool,
        cascade: bool,
    },
    /// Upper-case kind: TABLE, VIEW, MATERIALIZED VIEW, SCHEMA.
    Alter {
        kind: String,
        path: Path,
        if_exists: bool,
        actions: Vec<Alter>,
    },
    ExportData {
        options: Vec<(Name, Expr)>,
        query: Box<Query>,
    },
    LoadData {
        overwrite: bool,
        path: Path,
        columns: Option<Vec<Column>>,
        partition_by: Option<Expr>,
        cluster_by: Vec<Name>,
        options: Vec<(Name, Expr)>,
        files: Vec<(Name, Expr)>,
    },
    Grant {
        roles: Vec<String>,
        kind: String,
        path: Path,
        members: Vec<String>,
        revoke: bool,
    },
    Declare {
        names: Vec<Name>,
        kind: Option<TypeName>,
        default: Option<Expr>,
    },
    Set {
        names: Vec<Name>,
        value: Expr,
    },
    Assert {
        value: Expr,
        message: Option<String>,
    },
    ExecuteImmediate {
        sql: Expr,
        into: Vec<Name>,
        using: Vec<(Expr, Option<Name>)>,
    },
    /// BEGIN TRANSACTION, COMMIT, ...: accepted, as each statement is final at once.
    Nothing(&'static str),
    If {
        branches: Vec<(Expr, Vec<Stmt>)>,
        otherwise: Vec<Stmt>,
    },
    Block {
        body: Vec<Stmt>,
    },
    While {
        condition: Expr,
        body: Vec<Stmt>,
    },
}
