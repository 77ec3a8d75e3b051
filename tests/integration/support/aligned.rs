//! Tables for people, on the terminal.

/// Prints rows with their columns aligned; a cell is cut after `widest` characters.
pub fn print(header: &[&str], rows: &[Vec<String>], widest: usize) {
    let cut = |cell: &str| {
        let cell = cell.replace('\n', " ");
        if cell.chars().count() > widest { format!("{}…", cell.chars().take(widest - 1).collect::<String>()) } else { cell }
    };
    let all: Vec<Vec<String>> = std::iter::once(header.iter().map(|cell| (*cell).to_owned()).collect())
        .chain(rows.iter().cloned())
        .map(|row: Vec<String>| row.iter().map(|cell| cut(cell)).collect())
        .collect();
    let widths: Vec<usize> =
        (0..header.len()).map(|at| all.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
    for (n, row) in all.iter().enumerate() {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", line.join("  ").trim_end());
        if n == 0 {
            println!("{}", widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("  "));
        }
    }
}
