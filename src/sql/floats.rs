//! Filters on floats, which prune nothing.
//!
//! Statistics leave NaN out, in Delta's log and in Parquet's footers, while comparisons here order all floats: a NaN is greater than every number,
//! or, with its sign set, less than every one. A file or row group whose bounds say that no row can match may have such a row all the same, and one
//! of which every row seems to match may have others. No bound, and no count, says how many of them there are.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::functions::math::nanvl;
use datafusion::logical_expr::{Expr, ExprSchemable as _};

/// Whether a filter speaks of a column that has floats.
pub(super) fn speaks_of_floats(filter: &Expr, schema: &Schema) -> bool {
    filter.column_refs().iter().any(|column| schema.field_with_name(&column.name).is_ok_and(|field| has_floats(field.data_type())))
}

/// The places of the columns without floats.
pub(super) fn others(schema: &SchemaRef) -> HashSet<usize> {
    let fields = schema.fields().iter().enumerate();
    fields.filter(|(_, field)| !has_floats(field.data_type())).map(|(at, _)| at).collect()
}

fn has_floats(kind: &DataType) -> bool {
    match kind {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _)
        | DataType::RunEndEncoded(_, item) => has_floats(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| has_floats(field.data_type())),
        DataType::Dictionary(_, value) => has_floats(value),
        other => other.is_floating(),
    }
}

/// The same condition in words by which no engine prunes: each float as `nanvl(x, x)`, which is x.
///
/// For conditions that are handed to an engine that looks for files, and leaves out row groups, by itself.
pub(super) fn as_they_are(condition: Expr, schema: &Schema) -> Result<Expr> {
    let schema = DFSchema::try_from(schema.clone())?;
    let plain = |part: Expr| {
        let is_place = match &part {
            Expr::Column(_) => true,
            Expr::ScalarFunction(call) => call.name() == "get_field",
            _ => false,
        };
        if is_place && part.get_type(&schema).is_ok_and(|kind| kind.is_floating()) {
            return Ok(Transformed::new(nanvl().call(vec![part.clone(), part]), true, TreeNodeRecursion::Jump));
        }
        Ok(Transformed::no(part))
    };
    condition.transform_down(plain).map(|changed| changed.data)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Field;
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn conditions_on_floats_are_known_wherever_they_are() {
        let item = Arc::new(Field::new("item", DataType::Float16, true));
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("x", DataType::Float64, true),
            Field::new("xs", DataType::List(item), true),
            Field::new("d", DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Float32)), true),
            Field::new("s", DataType::Struct(vec![Field::new("id", DataType::Int64, true)].into()), true),
        ]);
        let five = || lit(5_i64);
        for floats in [col("x").gt(five()), col("id").eq(five()).or(col("x").lt(five())), col("xs").is_null(), col("d").eq(five())] {
            assert!(speaks_of_floats(&floats, &schema), "{floats}");
        }
        for plain in [col("id").gt(five()), col("s").is_null(), col("gone").is_null()] {
            assert!(!speaks_of_floats(&plain, &schema), "{plain}");
        }
        assert_eq!(others(&Arc::new(schema.clone())), HashSet::from([0, 4]));
        let condition = as_they_are(col("x").gt(five()).and(col("id").lt(five())), &schema).unwrap();
        assert_eq!(condition, nanvl().call(vec![col("x"), col("x")]).gt(five()).and(col("id").lt(five())));
    }
}
