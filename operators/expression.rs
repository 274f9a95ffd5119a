//! Expressions over the columns of a row: SQL expressions, parsed, typed and evaluated by the DataFusion crates.
//!
//! Names are case-sensitive as typed; a name that is no word is put into double quotes. Only numbers, truth values and texts
//! can be used: an image is not a value.
//!
//! A row's value depends on that row alone. DataFusion evaluates `a and b` batch by batch and may or may not look at `b`, so
//! nothing in an expression may fail on data; where SQL engines stop, an expression is NULL or NaN:
//!
//! - whole numbers divide to whole numbers, cut towards zero, as in SQL (`7 / 2` is 3; write `7 / 2.0` for 3.5); a division
//!   of whole numbers by zero is NULL;
//! - a cast that can't be done is NULL; `sqrt` of a negative number is NaN;
//! - a comparison with NaN is NULL (IEEE says false, Arrow says that NaN is above all numbers; with NULL, neither a cut nor its
//!   opposite keeps the row), and -0 equals 0.
//!
//! `random` and the functions that fail on large values (`factorial`, `gcd`, `lcm`) do not exist.

use crate::column::PROVENANCE;
use crate::{Fault, Placed, Problem};
use arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array, RecordBatch};
use arrow::compute::unary;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, ExprSchema, ScalarValue, SchemaError, TableReference, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::expr::{BinaryExpr, ScalarFunction, TryCast};
use datafusion_expr::planner::ExprPlanner;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{
    AggregateUDF, ColumnarValue, Expr, ExprSchemable, HigherOrderUDF, Operator, ScalarUDF, TableSource, Volatility, WindowUDF,
    create_udf, lit, when,
};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ContextProvider, ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::Parser;
use datafusion_sql::sqlparser::tokenizer::Token;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

/// An expression that fits a schema.
#[derive(Debug, Clone)]
pub struct Expression {
    physical: Arc<dyn PhysicalExpr>,
    /// The columns that are read, as a schema of their own.
    reads: SchemaRef,
    data_type: DataType,
    nullable: bool,
}

impl Expression {
    /// Parses and types an expression; every unknown column is a problem of its own.
    pub fn parse(text: &Placed<String>, schema: &Schema) -> Result<Self, Vec<Problem>> {
        let ast = syntax(text).map_err(|problem| vec![problem])?;
        let usable = schema.fields().iter().filter(|f| is_value(f.data_type())).cloned();
        let mut fields: Vec<Arc<Field>> = usable.collect();
        let mut problems = Vec::new();
        let planner = SqlToRel::new_with_options(&*CONTEXT, options());
        let (logical, typed) = loop {
            let typed = DFSchema::try_from(Schema::new(fields.clone())).map_err(|e| vec![failed(text, &e)])?;
            match planner.sql_to_expr(ast.clone(), &typed, &mut PlannerContext::new()) {
                Ok(logical) => break (logical, typed),
                Err(error) => match unknown_column(&error) {
                    // A stand-in for what is not there, so that what else is unknown is found as well.
                    Some(name) if !fields.iter().any(|f| *f.name() == name) => {
                        problems.push(no_column(text, &name, &error, schema));
                        fields.push(Field::new(name, DataType::Float64, false).into());
                    }
                    _ => {
                        problems.push(failed(text, &error));
                        return Err(problems);
                    }
                },
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        Self::typed(logical, &typed).map_err(|error| vec![failed(text, &error)])
    }

    fn typed(logical: Expr, schema: &DFSchema) -> Result<Self, DataFusionError> {
        let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
        let simplifier = ExprSimplifier::new(context);
        let logical = simplifier.coerce(logical, schema)?;
        let logical = logical.transform_up(|node| cannot_fail(node, schema))?.data;
        let logical = simplifier.simplify(logical)?;
        let names: BTreeSet<&str> = logical.column_refs().into_iter().map(|c| c.name.as_str()).collect();
        let fields: Vec<_> = schema.fields().iter().filter(|f| names.contains(f.name().as_str())).cloned().collect();
        let reads = Arc::new(Schema::new(fields));
        let own = DFSchema::try_from(Arc::clone(&reads))?;
        let physical = create_physical_expr(&logical, &own, &ExecutionProps::new(), &Default::default())?;
        let data_type = physical.data_type(&reads)?;
        let nullable = physical.nullable(&reads)?;
        Ok(Self { physical, reads, data_type, nullable })
    }

    /// The same as [`parse`](Self::parse) for a condition: a problem where it is not true or false.
    pub fn condition(text: &Placed<String>, schema: &Schema) -> Result<Self, Vec<Problem>> {
        let parsed = Self::parse(text, schema)?;
        if parsed.data_type == DataType::Boolean {
            return Ok(parsed);
        }
        let problem = Problem::at(text, format!("`{}` is {}, not true or false", text.value, in_words(&parsed.data_type)));
        Err(vec![problem.help(format!("compare it with something, as in `{} > 0`", text.value))])
    }

    /// The type of the values.
    #[must_use]
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// True where a value may be NULL.
    #[must_use]
    pub fn nullable(&self) -> bool {
        self.nullable
    }

    /// The columns that are read.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<String> {
        self.reads.fields().iter().map(|f| f.name().clone()).collect()
    }

    /// The value of each row. The columns are found by name.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, Fault> {
        let columns = self.reads.fields().iter().map(|f| Arc::clone(crate::column::get(batch, f.name()))).collect();
        let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let own = RecordBatch::try_new_with_options(Arc::clone(&self.reads), columns, &rows)?;
        let value = self.physical.evaluate(&own).map_err(|e| Fault::content(first_line(&e.strip_backtrace())))?;
        Ok(value.into_array(batch.num_rows())?)
    }
}

/// True for what an expression can use.
fn is_value(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_value(value),
        other => other.is_numeric(),
    }
}

fn in_words(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => "a text".into(),
        other if other.is_numeric() => "a number".into(),
        DataType::Null => "nothing".into(),
        other => other.to_string(),
    }
}

fn options() -> ParserOptions {
    ParserOptions::new().with_enable_ident_normalization(false).with_collect_spans(true).with_map_string_types_to_utf8view(false)
}

/// Parses the whole text.
fn syntax(text: &Placed<String>) -> Result<datafusion_sql::sqlparser::ast::Expr, Problem> {
    let wrong = |error: String| {
        let said = error.trim_start_matches("sql parser error: ");
        let (what, at) = said.split_once(" at Line: ").map_or((said, None), |(what, at)| (what, Some(at)));
        let mut numbers = at.unwrap_or_default().split(", Column: ").filter_map(|n| n.trim().parse::<u64>().ok());
        let place = numbers.next().zip(numbers.next()).map_or(text.place, |(line, column)| within(text, line, column));
        let what = what.replace("Expected: ", "expected ").replace("found: ", "found ").replace("found EOF", "found its end");
        Problem { place, what: format!("`{}` is no expression: {what}", text.value), help: None }
    };
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text).map_err(|error| wrong(error.to_string()))?;
    let ast = parser.parse_expr().map_err(|error| wrong(error.to_string()))?;
    let next = parser.peek_token();
    if next.token == Token::EOF {
        return Ok(ast);
    }
    let place = within(text, next.span.start.line, next.span.start.column);
    let what = format!("`{}` is no expression: it ends before `{}`", text.value, next.token);
    let problem = Problem { place, what, help: None };
    Err(match next.token {
        Token::Eq | Token::DoubleEq | Token::Assignment => problem.help("a comparison is `=`, `<`, `>=`, `<>` and so on"),
        _ => problem,
    })
}

/// The place of a position in an expression's text.
fn within(text: &Placed<String>, line: u64, column: u64) -> crate::Place {
    let back = |n: u64| u32::try_from(n.saturating_sub(1)).unwrap_or(0);
    match text.place.line {
        0 => text.place,
        first => crate::Place { line: first + back(line), column: text.place.column + back(column) },
    }
}

fn position(text: &Placed<String>, error: &DataFusionError) -> crate::Place {
    let span = error.diagnostic().and_then(|d| d.span);
    span.map_or(text.place, |span| within(text, span.start.line, span.start.column))
}

fn unknown_column(error: &DataFusionError) -> Option<String> {
    match error.find_root() {
        DataFusionError::SchemaError(e, _) => match &**e {
            SchemaError::FieldNotFound { field, .. } => Some(field.name.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn no_column(text: &Placed<String>, name: &str, error: &DataFusionError, schema: &Schema) -> Problem {
    let at = |what| Problem { place: position(text, error), what, help: None };
    if schema.field_with_name(name).is_ok() {
        let problem = at(format!("column `{name}` is an image or a list, which an expression can't use"));
        return problem.help("make a number of it first, with a step for images");
    }
    let known: Vec<&str> = schema.fields().iter().filter(|f| is_value(f.data_type())).map(|f| f.name().as_str()).collect();
    let own: Vec<&str> = known.iter().copied().filter(|k| !PROVENANCE.contains(k)).collect();
    let close = at(format!("no column `{name}`")).suggest(name, known);
    match &close.help {
        Some(help) if help.starts_with("did you mean") => close,
        _ => at(format!("no column `{name}`")).suggest(name, own),
    }
}

/// What DataFusion says, in the house's words.
fn failed(text: &Placed<String>, error: &DataFusionError) -> Problem {
    let said = first_line(&error.strip_backtrace());
    let mut what = said.as_str();
    for prefix in ["Schema error: ", "Error during planning: ", "type_coercion", "This feature is not implemented: ", "caused by"]
    {
        what = what.trim_start_matches(prefix).trim_start();
    }
    let place = position(text, error);
    if let Some(rest) = what.strip_prefix("Invalid function '") {
        let name = rest.split('\'').next().unwrap_or(rest);
        let problem = Problem { place, what: format!("no function `{name}`"), help: None };
        return problem.suggest(name, CONTEXT.names.iter().map(String::as_str));
    }
    Problem { place, what: format!("`{}`: {}", text.value, what.trim_end_matches('.')), help: None }
}

/// The first line that says something: DataFusion stacks its reasons, the outer ones without content.
fn first_line(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !matches!(*l, "" | "caused by" | "type_coercion")).collect();
    lines.first().copied().unwrap_or(said).to_owned()
}

/// Rewrites what could fail on data; see the top of this file.
fn cannot_fail(node: Expr, schema: &dyn ExprSchema) -> Result<Transformed<Expr>, DataFusionError> {
    let rewritten = match node {
        Expr::Cast(cast) => Expr::TryCast(TryCast { expr: cast.expr, field: cast.field }),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Divide | Operator::Modulo), right })
            if right.get_type(schema)?.is_integer() =>
        {
            let zero = ScalarValue::new_zero(&right.get_type(schema)?)?;
            let null = ScalarValue::try_from(&right.get_type(schema)?)?;
            let right = when((*right).clone().eq(lit(zero)), lit(null)).otherwise(*right)?;
            Expr::BinaryExpr(BinaryExpr { left, op, right: Box::new(right) })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op.supports_propagation() => {
            let (left, right) = (Box::new(comparable(*left, schema)?), Box::new(comparable(*right, schema)?));
            Expr::BinaryExpr(BinaryExpr { left, op, right })
        }
        Expr::Between(mut between) => {
            between.expr = Box::new(comparable(*between.expr, schema)?);
            between.low = Box::new(comparable(*between.low, schema)?);
            between.high = Box::new(comparable(*between.high, schema)?);
            Expr::Between(between)
        }
        Expr::InList(mut list) => {
            list.expr = Box::new(comparable(*list.expr, schema)?);
            list.list = list.list.into_iter().map(|item| comparable(item, schema)).collect::<Result<_, _>>()?;
            Expr::InList(list)
        }
        other => return Ok(Transformed::no(other)),
    };
    Ok(Transformed::yes(rewritten))
}

/// A float operand of a comparison without NaN (NULL instead) and without -0.
fn comparable(operand: Expr, schema: &dyn ExprSchema) -> Result<Expr, DataFusionError> {
    let function = match operand.get_type(schema)? {
        DataType::Float64 => &*COMPARABLE_64,
        DataType::Float32 => &*COMPARABLE_32,
        _ => return Ok(operand),
    };
    Ok(Expr::ScalarFunction(ScalarFunction { func: Arc::clone(function), args: vec![operand] }))
}

/// A function of one float array to another.
fn function(name: &str, data_type: DataType, apply: impl Fn(&ArrayRef) -> ArrayRef + Send + Sync + 'static) -> Arc<ScalarUDF> {
    let call = move |args: &[ColumnarValue]| {
        let scalar = args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let result = apply(&ColumnarValue::values_to_arrays(args)?[0]);
        if scalar { ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar) } else { Ok(ColumnarValue::Array(result)) }
    };
    Arc::new(create_udf(name, vec![data_type.clone()], data_type, Volatility::Immutable, Arc::new(call)))
}

static COMPARABLE_64: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    function("comparable", DataType::Float64, |array| {
        let values = array.as_primitive::<Float64Type>();
        Arc::new(values.iter().map(|v| v.filter(|x| !x.is_nan()).map(|x| x + 0.0)).collect::<Float64Array>())
    })
});

static COMPARABLE_32: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    function("comparable", DataType::Float32, |array| {
        let values = array.as_primitive::<Float32Type>();
        Arc::new(values.iter().map(|v| v.filter(|x| !x.is_nan()).map(|x| x + 0.0)).collect::<Float32Array>())
    })
});

/// The functions that an expression may call, by name.
struct Context {
    options: ConfigOptions,
    functions: HashMap<String, Arc<ScalarUDF>>,
    /// In alphabetical order.
    names: Vec<String>,
}

static CONTEXT: LazyLock<Context> = LazyLock::new(|| {
    let mut functions = HashMap::new();
    for function in datafusion_functions::math::functions() {
        for name in function.aliases().iter().map(String::as_str).chain([function.name()]) {
            if !matches!(name, "random" | "rand" | "factorial" | "gcd" | "lcm" | "sqrt") {
                functions.insert(name.to_owned(), Arc::clone(&function));
            }
        }
    }
    let sqrt =
        function("sqrt", DataType::Float64, |a| Arc::new(unary::<_, _, Float64Type>(a.as_primitive::<Float64Type>(), f64::sqrt)));
    functions.insert("sqrt".into(), sqrt);
    let mut names: Vec<String> = functions.keys().cloned().collect();
    names.sort();
    Context { options: ConfigOptions::default(), functions, names }
});

impl ContextProvider for Context {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>, DataFusionError> {
        plan_err!("there are no tables here (`{name}`)")
    }
    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.get(&name.to_ascii_lowercase()).cloned()
    }
    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }
    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }
    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }
    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }
    fn options(&self) -> &ConfigOptions {
        &self.options
    }
    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &[]
    }
    fn udf_names(&self) -> Vec<String> {
        self.names.clone()
    }
    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::batch_of;
    use crate::{Place, hits};
    use arrow::array::{BooleanArray, DictionaryArray, Int32Array, StringArray};
    use arrow::datatypes::Int8Type;

    fn batch() -> RecordBatch {
        let sample: DictionaryArray<Int8Type> = vec!["pion", "electron", "pion"].into_iter().collect();
        batch_of(vec![
            ("energy", Arc::new(Float32Array::from(vec![10.0, 20.0, f32::NAN]))),
            ("Energy", Arc::new(Float64Array::from(vec![1.0, -0.0, 3.0]))),
            ("pdg", Arc::new(Int32Array::from(vec![11, 22, 211]))),
            ("good", Arc::new(BooleanArray::from(vec![true, false, true]))),
            ("name", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
            ("sample", Arc::new(sample)),
        ])
    }

    fn placed(text: &str) -> Placed<String> {
        Placed { value: text.into(), place: Place { line: 3, column: 11 } }
    }

    fn truth(text: &str) -> Vec<Option<bool>> {
        let batch = batch();
        let parsed = Expression::condition(&placed(text), &batch.schema()).unwrap();
        parsed.evaluate(&batch).unwrap().as_boolean().iter().collect()
    }

    #[test]
    fn conditions_are_evaluated_row_by_row() {
        let (yes, no) = (Some(true), Some(false));
        for (text, wanted) in [
            ("energy > 15", [no, yes, None]),
            ("not energy > 15", [yes, no, None]),
            ("energy between 5 and 15", [yes, no, None]),
            ("Energy = 0", [no, yes, no]),
            ("Energy in (0, 3)", [no, yes, yes]),
            ("isnan(energy) or energy > 15", [no, yes, yes]),
            ("sample = 'pion'", [yes, no, yes]),
            ("sample in ('electron', 'photon') and good", [no, no, no]),
            ("abs(pdg) in (11, 22)", [yes, yes, no]),
            ("name <> 'b' and ROUND(Energy) >= 1", [yes, no, yes]),
            ("100 / (pdg - 11) > 1", [None, yes, no]),
            ("good", [yes, no, yes]),
        ] {
            assert_eq!(truth(text), wanted, "{text}");
        }
    }

    #[test]
    fn columns_that_are_read_are_known() {
        let parsed = Expression::parse(&placed("energy * 2 + pdg"), &batch().schema()).unwrap();
        assert_eq!(parsed.columns(), BTreeSet::from(["energy".to_owned(), "pdg".to_owned()]));
        assert!(Expression::parse(&placed("1 + 1"), &batch().schema()).unwrap().columns().is_empty());
    }

    #[test]
    fn mistakes_point_into_the_text() {
        let ecal = hits::hits_field("ecal", &[5, 5], &[Field::new("energy", DataType::Float32, false)]);
        let mut fields = batch().schema().fields().to_vec();
        fields.push(ecal.into());
        let schema = Schema::new(fields);
        let found = |text: &str| -> Vec<String> {
            let problems = Expression::parse(&placed(text), &schema).unwrap_err();
            let help = |p: &Problem| p.help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
            problems.iter().map(|p| format!("{}:{} {}{}", p.place.line, p.place.column, p.what, help(p))).collect()
        };
        assert_eq!(
            found("energy > enrgy and etta < 2"),
            [
                "3:20 no column `enrgy` (did you mean `energy`?)",
                "3:30 no column `etta` (there is energy, Energy, pdg, good, name)"
            ]
        );
        assert_eq!(
            found("2 * ecal"),
            [
                "3:15 column `ecal` is an image or a list, which an expression can't use (make a number of it first, with a step for images)"
            ]
        );
        assert_eq!(found("energy >"), ["3:11 `energy >` is no expression: expected an expression, found its end"]);
        assert_eq!(found("energy > > 3"), ["3:20 `energy > > 3` is no expression: expected an expression, found >"]);
        assert_eq!(found("energy 3"), ["3:18 `energy 3` is no expression: it ends before `3`"]);
        assert_eq!(found("sqt(energy)"), ["3:11 no function `sqt` (did you mean `sqrt`?)"]);
        assert_eq!(found("'a"), ["3:11 `'a` is no expression: Unterminated string literal"]);
        assert_eq!(
            found("energy and good"),
            ["3:11 `energy and good`: Cannot infer common argument type for logical boolean operation Float32 AND Boolean"]
        );
    }
}
