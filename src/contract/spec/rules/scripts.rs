//! `scripts`: SQL that Postgres parses and that can run inside one transaction, in which pgmoor also remembers that it
//! ran. A message repeats nothing of a statement but words that are SQL's own: a statement may set a password.

#![expect(clippy::wildcard_enum_match_arm, reason = "SQL has hundreds of statements, and a few of them concern us")]

use pg_query::NodeEnum;
use pg_query::protobuf::{
    CreateSubscriptionStmt, DefElem, DiscardMode, ReindexObjectType, ReindexStmt, Token, VariableSetStmt,
};

use super::Check;
use crate::contract::faults::{Code, Fault, pointer};
use crate::contract::wire::ScriptsSpec;

/// The most characters of a statement (reference 1.2).
const STATEMENT_CHARS_MAX: usize = 1024;

pub(super) fn check(check: &mut Check<'_>) {
    let Some(scripts) = &check.spec.scripts else { return };
    for (statements, place) in lists(scripts) {
        for (index, statement) in statements.iter().enumerate().filter(|(_, statement)| is_short(statement)) {
            let place = pointer(place, index);
            check.faults.extend(judge(statement, &place));
        }
    }
}

/// The schema has refused longer ones; they are not worth a parser's time.
fn is_short(statement: &str) -> bool {
    statement.chars().count() <= STATEMENT_CHARS_MAX
}

fn lists(scripts: &ScriptsSpec) -> [(&[String], &'static str); 2] {
    [(&scripts.post_init, "/scripts/post_init"), (&scripts.post_database_create, "/scripts/post_database_create")]
}

/// Whether a statement sets a role's password.
pub(in crate::contract::spec) fn set_passwords(scripts: &ScriptsSpec) -> bool {
    let password = |options: &[pg_query::protobuf::Node]| {
        options.iter().any(|option| matches!(&option.node, Some(NodeEnum::DefElem(element)) if is_password(element)))
    };
    let sets = |node: &NodeEnum| match node {
        NodeEnum::CreateRoleStmt(role) => password(&role.options),
        NodeEnum::AlterRoleStmt(role) => password(&role.options),
        NodeEnum::CreateUserMappingStmt(mapping) => password(&mapping.options),
        NodeEnum::AlterUserMappingStmt(mapping) => password(&mapping.options),
        NodeEnum::CreateSubscriptionStmt(_) => true,
        _ => false,
    };
    let mut statements = lists(scripts).into_iter().flat_map(|(statements, _)| statements);
    statements.any(|statement| parse(statement).is_ok_and(|nodes| nodes.iter().any(sets)))
}

fn is_password(element: &DefElem) -> bool {
    element.defname.eq_ignore_ascii_case("password")
}

/// The statements in a text. The parser's answer comes through a codec that gives up on deeply nested expressions; what
/// has one is a query, which can run in a transaction, so it is left out.
fn parse(text: &str) -> Result<Vec<NodeEnum>, pg_query::Error> {
    let mut nodes = Vec::new();
    for statement in pg_query::split_with_parser(text)? {
        match pg_query::parse(statement, pg_query::ParserOptions::DEFAULT) {
            Ok(parsed) => {
                nodes.extend(parsed.protobuf.stmts.into_iter().filter_map(|raw| raw.stmt.and_then(|node| node.node)));
            }
            Err(pg_query::Error::Decode(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(nodes)
}

fn judge(statement: &str, place: &str) -> Vec<Fault> {
    let nodes = match parse(statement) {
        Ok(nodes) => nodes,
        Err(error) => {
            let message = format!("failed to parse SQL statement: {}", words(&error));
            return vec![Fault::new(Code::InvalidScript, place, message)];
        }
    };
    let hint = "scripts run in one transaction, in which it is also remembered that they ran";
    let fault = |what| {
        let message = format!("{what} cannot run inside a transaction block");
        Fault::new(Code::ScriptNotTransactional, place, message).hint(hint)
    };
    nodes.iter().filter_map(outside_transactions).map(fault).collect()
}

/// What the parser says, without the piece of the statement that it quotes, unless that is a word of SQL.
fn words(error: &pg_query::Error) -> String {
    let (pg_query::Error::Parse(text) | pg_query::Error::Split(text)) = error else {
        return "it is not text that Postgres takes".to_owned();
    };
    let Some((before, rest)) = text.split_once(" at or near \"") else {
        return if text.contains('"') { "syntax error".to_owned() } else { text.clone() };
    };
    let quoted = rest.strip_suffix('"').unwrap_or(rest);
    if is_sql_word(quoted) { format!("{before} at or near \"{quoted}\"") } else { before.to_owned() }
}

fn is_sql_word(text: &str) -> bool {
    let Ok(tokens) = pg_query::scan(text) else { return false };
    let [token] = tokens.tokens.as_slice() else { return false };
    let name = [Token::Ident, Token::Uident, Token::Sconst, Token::Usconst, Token::Iconst, Token::Fconst];
    let literal = [Token::Bconst, Token::Xconst, Token::Param, Token::SqlComment, Token::CComment, Token::Op];
    !name.iter().chain(&literal).any(|kind| *kind as i32 == token.token)
}

/// The name of a statement that Postgres refuses inside a transaction, or that would end ours.
fn outside_transactions(node: &NodeEnum) -> Option<&'static str> {
    Some(match node {
        NodeEnum::TransactionStmt(_) => "transaction control",
        NodeEnum::CreatedbStmt(_) => "CREATE DATABASE",
        NodeEnum::DropdbStmt(_) => "DROP DATABASE",
        NodeEnum::CreateTableSpaceStmt(_) => "CREATE TABLESPACE",
        NodeEnum::DropTableSpaceStmt(_) => "DROP TABLESPACE",
        NodeEnum::AlterSystemStmt(_) => "ALTER SYSTEM",
        NodeEnum::VacuumStmt(vacuum) if vacuum.is_vacuumcmd => "VACUUM",
        NodeEnum::IndexStmt(index) if index.concurrent => "CREATE INDEX CONCURRENTLY",
        NodeEnum::DropStmt(drop) if drop.concurrent => "DROP INDEX CONCURRENTLY",
        NodeEnum::ReindexStmt(reindex) if reindex.params.iter().any(is_concurrently) => "REINDEX CONCURRENTLY",
        NodeEnum::CopyStmt(copy) if copy.filename.is_empty() && !copy.is_program => "COPY with the client's data",
        NodeEnum::ReindexStmt(reindex) if of_database(reindex) => "REINDEX of a schema, a database or the system",
        NodeEnum::ClusterStmt(cluster) if cluster.relation.is_none() => "CLUSTER without a table",
        NodeEnum::DiscardStmt(discard) if discard.target() == DiscardMode::DiscardAll => "DISCARD ALL",
        NodeEnum::CreateSubscriptionStmt(create) if makes_slot(create) => "CREATE SUBSCRIPTION that makes a slot",
        NodeEnum::AlterDatabaseStmt(alter) if alter.options.iter().any(is_tablespace) => {
            "ALTER DATABASE SET TABLESPACE"
        }
        NodeEnum::VariableSetStmt(set) if ends_with_us(set) => "setting the session's role",
        _ => return None,
    })
}

fn is_concurrently(node: &pg_query::protobuf::Node) -> bool {
    matches!(&node.node, Some(NodeEnum::DefElem(element)) if element.defname == "concurrently")
}

fn of_database(reindex: &ReindexStmt) -> bool {
    use ReindexObjectType::{ReindexObjectDatabase, ReindexObjectSchema, ReindexObjectSystem};
    [ReindexObjectDatabase, ReindexObjectSchema, ReindexObjectSystem].contains(&reindex.kind())
}

fn is_tablespace(node: &pg_query::protobuf::Node) -> bool {
    matches!(&node.node, Some(NodeEnum::DefElem(element)) if element.defname == "tablespace")
}

/// Unless `connect = false` or `create_slot = false` says that nothing is asked of the publisher.
fn makes_slot(create: &CreateSubscriptionStmt) -> bool {
    let says_no = |node: &pg_query::protobuf::Node| {
        let Some(NodeEnum::DefElem(element)) = &node.node else { return false };
        let value = element.arg.as_ref().and_then(|arg| arg.node.as_ref());
        ["connect", "create_slot"].contains(&element.defname.as_str()) && value.is_some_and(is_false)
    };
    !create.options.iter().any(says_no)
}

fn is_false(value: &NodeEnum) -> bool {
    match value {
        NodeEnum::String(text) => ["false", "off"].iter().any(|word| word.eq_ignore_ascii_case(&text.sval)),
        NodeEnum::Boolean(value) => !value.boolval,
        NodeEnum::Integer(number) => number.ival == 0,
        _ => false,
    }
}

/// A changed role would stay for the statements after it, ours among them.
fn ends_with_us(set: &VariableSetStmt) -> bool {
    !set.is_local && ["role", "session_authorization"].contains(&set.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(statement: &str) -> Vec<Code> {
        judge(statement, "/x").iter().map(|fault| fault.code).collect()
    }

    #[test]
    fn statements_are_parsed_as_postgres_does() {
        for good in [
            "SELECT 1",
            "CREATE TABLE a (b int); INSERT INTO a VALUES (1);",
            "-- nothing",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$",
            "ANALYZE",
            "CREATE INDEX i ON a (b)",
            "REINDEX TABLE a",
            "SET search_path = x",
            "SET LOCAL ROLE app",
            "CLUSTER a USING i",
            "DISCARD PLANS",
            "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (connect = false)",
            &format!("SELECT 1{}", " + 1".repeat(250)),
            &format!("SELECT {}1{}", "(".repeat(250), ")".repeat(250)),
            &format!("SELECT {}", vec!["a = 1"; 100].join(" OR ")),
        ] {
            assert_eq!(codes(good), [], "{good}");
        }
        assert_eq!(codes("SELEC 1"), [Code::InvalidScript]);
        assert_eq!(codes("SELECT 'a"), [Code::InvalidScript]);
        assert_eq!(codes("SELECT 1\0"), [Code::InvalidScript]);
    }

    #[test]
    fn what_cannot_run_in_a_transaction_is_refused() {
        for bad in [
            "CREATE DATABASE x",
            "DROP DATABASE x",
            "VACUUM",
            "BEGIN",
            "COMMIT",
            "CREATE INDEX CONCURRENTLY i ON a (b)",
            "DROP INDEX CONCURRENTLY i",
            "REINDEX TABLE CONCURRENTLY a",
            "ALTER SYSTEM SET work_mem = '1MB'",
            "CREATE TABLESPACE t LOCATION '/x'",
            "SET ROLE app",
            "COPY a FROM STDIN",
            "REINDEX DATABASE x",
            "REINDEX SCHEMA public",
            "CLUSTER",
            "DISCARD ALL",
            "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (enabled = false)",
            "ALTER DATABASE x SET TABLESPACE t",
        ] {
            assert_eq!(codes(bad), [Code::ScriptNotTransactional], "{bad}");
        }
    }

    #[test]
    fn messages_do_not_repeat_values() {
        for secret in
            ["ALTER ROLE a PASSWORD hunter2", "ALTER ROLE a PASSWORD 'hunter2", "SELECT hunter2 hunter2 hunter2"]
        {
            let message = judge(secret, "/x").pop().unwrap().message;
            assert!(!message.contains("hunter2"), "{message}");
        }
        let message = judge("SELECT FROM WHERE", "/x").pop().unwrap().message;
        assert!(message.contains("\"WHERE\""), "{message}");
    }

    #[test]
    fn passwords_in_scripts_are_seen() {
        let scripts = |statement: &str| ScriptsSpec { post_init: vec![statement.to_owned()], ..ScriptsSpec::default() };
        assert!(set_passwords(&scripts("CREATE ROLE a LOGIN PASSWORD 'x'")));
        assert!(set_passwords(&scripts("ALTER USER a WITH PASSWORD 'x'")));
        assert!(!set_passwords(&scripts("CREATE ROLE a LOGIN")));
    }
}
