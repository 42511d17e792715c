//! Following objects as they change.

use serde_json::Value;

use super::{Ask, Client, Error, Lines, query};

/// A Kubernetes watch on one collection.
pub struct Watch {
    lines: Lines,
}

impl Watch {
    /// Watches `collection` (a path) from `revision` on.
    ///
    /// # Errors
    /// Any of [`Error`]; a refusal with `Expired` means that the revision is too old: list again.
    pub async fn start(
        client: &Client,
        collection: &str,
        selectors: &[(&str, String)],
        revision: &str,
        accept: &'static str,
    ) -> Result<Self, Error> {
        let mut pairs = selectors.to_vec();
        pairs.push(("watch", "true".into()));
        pairs.push(("resourceVersion", revision.to_owned()));
        let ask = Ask::get(format!("{collection}{}", query(&pairs))).accept(accept);
        Ok(Self { lines: client.send(ask).await?.lines() })
    }

    /// The next change, as its type and its object; `None` where the node ended the watch (start it again).
    ///
    /// # Errors
    /// Where the connection breaks, or the node says that it cannot go on.
    pub async fn next(&mut self) -> Result<Option<(String, Value)>, Error> {
        let Some(mut event) = self.lines.next().await? else { return Ok(None) };
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        let object = event["object"].take();
        if kind == "ERROR" {
            let code = object["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
            return Err(Client::refused(code, object.to_string().as_bytes()));
        }
        Ok(Some((kind, object)))
    }
}

/// Follows one object, absent or not, until `look` has seen what it waits for.
///
/// # Errors
/// Those of the requests, and what `look` refuses.
pub async fn until<T>(
    client: &Client,
    collection: &str,
    name: &str,
    mut look: impl FnMut(Option<&Value>) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let selectors = [("fieldSelector", format!("metadata.name={name}"))];
    loop {
        let list = client.json(Ask::get(format!("{collection}{}", query(&selectors)))).await?;
        if let Some(found) = look(list["items"].get(0))? {
            return Ok(found);
        }
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or("0");
        let mut watch = Watch::start(client, collection, &selectors, revision, "application/json").await?;
        loop {
            let (kind, object) = match watch.next().await {
                Ok(Some(event)) => event,
                // It ended, or our place in it is too old: begin anew.
                Ok(None) => break,
                Err(Error::Refused(refused)) if refused.code == 410 => break,
                Err(e) => return Err(e.into()),
            };
            let seen = match kind.as_str() {
                "ADDED" | "MODIFIED" => look(Some(&object))?,
                "DELETED" => look(None)?,
                _ => None,
            };
            if let Some(found) = seen {
                return Ok(found);
            }
        }
    }
}
