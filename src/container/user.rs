//! Who a container's process is: the image's USER or the pod's `runAsUser`, looked up in the container's own files.
//!
//! Files are parsed, never asked of the machine's name services.

use serde::{Deserialize, Serialize};

/// A user as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    pub home: String,
}

/// Resolves `uid`, `uid:gid`, `name`, `name:group` or nothing (root); the error says what to change.
pub fn resolve(text: &str, group_override: Option<u32>, passwd: &str, group: &str) -> Result<User, String> {
    let (user_text, group_text) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (text, None),
    };
    let user_text = if user_text.is_empty() { "0" } else { user_text };
    let number = user_text.parse::<u32>().ok();
    let entry = passwd.lines().filter_map(Entry::parse).find(|e| match number {
        Some(uid) => e.uid == uid,
        None => e.name == user_text,
    });
    let uid = match (&entry, number) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) => {
            return Err(format!(
                "user \"{user_text}\" is not in the image's /etc/passwd: set securityContext.runAsUser to a number"
            ));
        }
    };
    let gid = match (group_override, group_text) {
        (Some(gid), _) => gid,
        (None, Some(text)) => group_id(text, group)?,
        (None, None) => entry.as_ref().map_or(0, |e| e.gid),
    };
    Ok(User {
        uid,
        gid,
        groups: memberships(entry.as_ref().map(|e| e.name), gid, group),
        home: entry.map(|e| e.home).filter(|home| !home.is_empty()).unwrap_or("/").to_owned(),
    })
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    /// `name:password:uid:gid:gecos:home:shell`
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim_end().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    }
}

/// `name:password:gid:members`
fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim_end().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn group_id(text: &str, group: &str) -> Result<u32, String> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    group_lines(group).find(|(name, ..)| *name == text).map(|(_, gid, _)| gid).ok_or_else(|| {
        format!("group \"{text}\" is not in the image's /etc/group: set securityContext.runAsGroup to a number")
    })
}

/// The primary group too: a program that changes its primary group must not lose it without being asked.
fn memberships(user: Option<&str>, primary: u32, group: &str) -> Vec<u32> {
    let member = |members: &str| user.is_some_and(|user| members.split(',').any(|member| member == user));
    let named = group_lines(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid);
    let mut gids: Vec<u32> = named.chain([primary]).collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:Web:/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nlog:x:4:web,other\nssl:x:9:other\nweb:x:34:\n";

    fn ids(text: &str, gid: Option<u32>) -> (u32, u32, Vec<u32>, String) {
        let user = resolve(text, gid, PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn every_form_resolves() {
        assert_eq!(ids("", None), (0, 0, vec![0], "/root".into()));
        assert_eq!(ids("web", None), (33, 34, vec![4, 34], "/var/www".into()));
        assert_eq!(ids("33", None), (33, 34, vec![4, 34], "/var/www".into()));
        assert_eq!(ids("web:log", None), (33, 4, vec![4], "/var/www".into()));
        assert_eq!(ids("1000", None), (1000, 0, vec![0], "/".into()));
        assert_eq!(ids("1000:1001", None), (1000, 1001, vec![1001], "/".into()));
        assert_eq!(ids("web:log", Some(77)), (33, 77, vec![4, 77], "/var/www".into()));
    }

    #[test]
    fn unknown_names_are_errors_that_say_what_to_do() {
        assert!(resolve("nobody", None, PASSWD, GROUP).unwrap_err().contains("runAsUser"));
        assert!(resolve("web:nogroup", None, PASSWD, GROUP).unwrap_err().contains("runAsGroup"));
        assert!(resolve("web", None, "", "").is_err());
    }
}
