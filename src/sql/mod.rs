//! DataFusion: provider, functions, session.
