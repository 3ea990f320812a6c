//! What the user does: specs, good and bad, deletes, commands, rows.

use crate::site::{DATABASES, HOSTS};
use crate::story::Story;
use crate::words::{DELETE, Word};

/// More generations than pgmoor takes by itself.
const AFTER_OURS: u64 = 1000;

impl Story {
    /// Publishes a spec.
    pub(crate) fn publish(&mut self, database: &str, payload: &[u8], word: Word) {
        let topic = self.site.topic(&format!("databases/{database}/spec"));
        self.site.trace.say(format!("user: {database} {}", String::from_utf8_lossy(payload)));
        if self.dice.percent(25) {
            self.site.trace.say("the broker saves");
            self.site.broker.save();
        }
        let (bad, ends) = (matches!(word, Word::Bad(_)), matches!(word, Word::Delete | Word::Clear));
        self.site.words.say(database, word);
        if ends && !self.site.recorded(database) {
            // Nothing is kept of what never was.
            self.site.words.forget(database);
        }
        if bad && !self.site.observed(database) {
            // It takes the place of the good one before it, which nobody has judged yet.
            self.site.words.change(database, |wish| wish.uncertain = true);
        }
        self.site.broker.publish(&topic, payload, true);
        if !self.site.broker.has_session() && payload.is_empty() {
            // Nobody is told of it later: the daemon sees only that the broker has no spec, which is no delete.
            self.site.words.change(database, |wish| wish.uncertain = true);
        }
    }

    /// Says something of a database.
    pub(crate) fn speak(&mut self) {
        let database = self.database();
        match self.dice.below(100) {
            0..=54 => {
                let spec = self.spec(database);
                self.publish(database, spec.as_bytes(), Word::Good(spec.clone()));
            }
            55..=64 => {
                self.counter += 1;
                let bad =
                    format!(r#"{{"database_name": "app", "port": 70000, "client_token": "bad-{}"}}"#, self.counter);
                self.publish(database, bad.as_bytes(), Word::Bad(bad.clone()));
            }
            65..=79 => self.publish(database, DELETE.as_bytes(), Word::Delete),
            80..=91 => self.publish(database, b"", Word::Clear),
            _ => {
                let topic = self.site.topic(&format!("databases/{database}/spec"));
                if self.site.broker.retained(&topic).is_some() {
                    self.site.trace.say(format!("user: {database} an empty publish that is not retained"));
                    self.site.broker.publish(&topic, b"", false);
                }
            }
        }
    }

    /// A good spec: a new one, or one from before.
    pub(crate) fn spec(&mut self, database: &str) -> String {
        if let Some(spec) = self.site.words.of(database).spec.filter(|_| !self.numbered && self.dice.percent(10)) {
            return spec;
        }
        self.counter += 1;
        let number = self.counter;
        let mut users = r#"{"username": "app", "db_owner": true, "attributes": ["LOGIN"]}"#.to_owned();
        if self.dice.percent(50) {
            users += &format!(r#", {{"username": "u{}", "attributes": ["LOGIN"]}}"#, number % 3);
        }
        let mut fields = vec![
            r#""database_name": "app""#.to_owned(),
            r#""memory": "256MiB""#.to_owned(),
            format!(r#""database_users": [{users}]"#),
            format!(r#""postgresql_conf": {{"work_mem": "{}MB"}}"#, 4 + number),
        ];
        if self.dice.percent(30) {
            let port = if self.dice.percent(50) { 0 } else { 15_000 + number };
            fields.push(format!(r#""port": {port}"#));
        }
        if self.is_fleet() && database == DATABASES[0] {
            let hosts = HOSTS.map(|host| format!("\"{host}\"")).join(", ");
            fields.push(format!(r#""nodes": [{{"name": "n1", "host_ids": [{hosts}]}}]"#));
        }
        if self.numbered {
            fields.push(format!(r#""generation": {number}"#));
        }
        format!("{{{}}}", fields.join(", "))
    }

    /// A spec to be said after what pgmoor published for its user, which has a generation of pgmoor's choice.
    pub(crate) fn renumbered(&self, spec: &str) -> String {
        let mut spec: serde_json::Value = serde_json::from_str(spec).unwrap();
        if self.numbered {
            spec["generation"] = (self.counter + AFTER_OURS).into();
        }
        spec.to_string()
    }

    /// Something that is asked for on a topic of commands.
    pub(crate) fn command(&mut self) {
        let database = self.database();
        let wish = self.site.words.of(database);
        let (verb, payload) = match (self.dice.below(4), &wish.spec, &wish.last) {
            (0, None, Some(last)) => {
                // What it publishes may come after what the user says next: in the end the user says it again.
                let last = last.clone();
                self.site.words.change(database, |wish| {
                    wish.spec = Some(last);
                    wish.asked_back = true;
                });
                ("undelete", "{}".to_owned())
            }
            (1, None, _) => {
                self.site.words.change(database, |wish| wish.purged = true);
                ("purge", "{}".to_owned())
            }
            (2, ..) => ("history", "{}".to_owned()),
            _ => ("plan", self.spec(database)),
        };
        self.site.trace.say(format!("user: {database} {verb} {payload}"));
        let topic = self.site.topic(&format!("databases/{database}/commands/{verb}"));
        self.site.broker.publish(&topic, payload.as_bytes(), false);
    }

    /// Somebody else writes on a topic that is the daemon's own.
    pub(crate) fn meddle(&mut self) {
        let below = self.dice.one_of(&["status", "plan", "health"]).copied().unwrap_or("status");
        let topic = self.site.topic(&format!("databases/{}/{below}", self.database()));
        if self.site.broker.retained(&topic).is_some() {
            self.site.trace.say(format!("somebody else writes on {topic}"));
            self.site.broker.meddle(&topic);
        }
    }

    /// Writes into one that serves.
    pub(crate) fn write_row(&mut self) {
        let database = self.database();
        self.counter += 1;
        let row = format!("row {}", self.counter);
        let name = format!("postgres-{database}-n1-");
        let look = self.site.world.look();
        let Some(service) = look.services.keys().find(|service| service.starts_with(&name)) else { return };
        if self.site.world.write_row(service, "app", &row) {
            self.site.trace.say(format!("user: writes {row} to {database}"));
            self.site.words.change(database, |wish| wish.rows.push(row));
        }
    }
}
