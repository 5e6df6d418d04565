//! Protections: who may write where, by looking at all of them.

use singletrack_core::{
    fence::Fence,
    types::{Mode, RecordKey, ResourceName, Target},
};

use super::{
    Effect, Met, Model, Told,
    claims::{self, is_below_or_same},
    record::Done,
    told::{Number, OneOf},
};

/// Of one prefix.
const PROTECTIONS_MAX: usize = 8;

#[derive(Clone, Debug)]
pub(crate) struct Protection {
    namespace: String,
    prefix: String,
    resource: String,
    revision: u64,
}

impl Model {
    /// What the fences of a call stand for: all that their leases hold EXCLUSIVE now.
    pub(super) fn carried(&self, namespace: &str, fences: &[Fence]) -> Vec<Target> {
        let leases = self.leases_in(namespace);
        let leases = leases.filter(|it| fences.iter().any(|fence| fence.token == it.token));
        let targets = leases.flat_map(|it| it.targets.clone());
        targets.filter(|it| it.mode == Mode::Exclusive).collect()
    }

    /// A write there lacks something.
    pub(super) fn unprotected(
        &mut self,
        namespace: &str,
        key: &str,
        carried: &[Target],
    ) -> Option<Told> {
        let all = self.protections_of(namespace, Some(key));
        let count = all.len();
        let is_above = all.iter().any(|it| it.prefix != key);
        let missing: Vec<(String, String)> = all
            .into_iter()
            .filter(|it| !is_carried(&it.resource, carried))
            .map(|it| (it.prefix.clone(), it.resource.clone()))
            .collect();
        if missing.is_empty() {
            if count > 0 {
                self.met.push(Met::WrittenUnderProtection);
            }
            if count > 1 {
                self.met.push(Met::WrittenUnderSeveral);
            }
            let all = self.protections_of(namespace, Some(key));
            let is_held = |resource: &str| {
                let held = self.leases_in(namespace).flat_map(|it| it.targets.clone());
                let held: Vec<Target> = held.filter(|it| it.mode == Mode::Exclusive).collect();
                is_carried(resource, &held)
            };
            if all.iter().any(|it| !is_held(&it.resource)) {
                self.met.push(Met::WrittenUnderReleased);
            }
            if is_above {
                self.met.push(Met::WrittenBelowProtection);
            }
            return None;
        }
        self.met.push(Met::FenceRequired);
        Some(self.fence_required(namespace, missing))
    }

    /// Any of those that are missing may be named, with who holds the resource.
    fn fence_required(&self, namespace: &str, missing: Vec<(String, String)>) -> Told {
        let each = missing.into_iter().map(|(prefix, resource)| {
            let newest = self.holders(namespace, &resource).last().copied();
            let current = newest.map(|it| (Number(it.token.0), it.holder.clone()));
            (prefix, resource, current)
        });
        Told::FenceRequired(OneOf(each.collect()))
    }

    /// Protects a prefix, or takes a protection back.
    pub(super) fn protect(
        &mut self,
        namespace: &str,
        (prefix, resource): (&str, &str),
        as_admin: bool,
        is_back: bool,
        carried: &[Target],
    ) -> Result<Done, Told> {
        if !as_admin && !is_carried(resource, carried) {
            let missing = vec![(prefix.to_owned(), resource.to_owned())];
            return Err(self.fence_required(namespace, missing));
        }
        if !as_admin {
            self.met.push(Met::ProtectedByHolder);
        }
        let is_it = |it: &Protection| {
            it.namespace == namespace && it.prefix == prefix && it.resource == resource
        };
        let known = self.protections.iter().find(|it| is_it(it)).map(|it| it.revision);
        match (is_back, known) {
            (false, Some(revision)) => {
                let told = Told::Protected { revision, existed: true, replayed: false };
                Ok(Done::Before(told))
            }
            (true, None) => Ok(Done::Before(Told::Unprotected { existed: false, replayed: false })),
            (true, Some(_)) => {
                self.protections.retain(|it| !is_it(it));
                self.met.push(Met::Unprotected);
                Ok(Done::Now(Effect::Unprotected))
            }
            (false, None) => {
                let of_prefix = self.protections_of(namespace, None);
                if of_prefix.iter().filter(|it| it.prefix == prefix).count() == PROTECTIONS_MAX {
                    self.met.push(Met::PrefixFull);
                    return Err(Told::Quota);
                }
                let revision = self.next_version(namespace, prefix);
                self.protections.push(Protection {
                    namespace: namespace.into(),
                    prefix: prefix.into(),
                    resource: resource.into(),
                    revision,
                });
                Ok(Done::Now(Effect::Protected { revision }))
            }
        }
    }

    /// Of a namespace, or those that cover a key, in the order of prefix and resource.
    fn protections_of(&self, namespace: &str, key: Option<&str>) -> Vec<&Protection> {
        let mut all: Vec<&Protection> = self
            .protections
            .iter()
            .filter(|it| it.namespace == namespace)
            .filter(|it| key.is_none_or(|key| is_below_or_same(key, &it.prefix)))
            .collect();
        all.sort_by_key(|it| (it.prefix.as_bytes(), it.resource.as_bytes()));
        all
    }

    pub(super) fn page_of_protections(
        &self,
        namespace: &str,
        key: Option<&str>,
        after: Option<&(RecordKey, ResourceName)>,
        count: usize,
    ) -> Told {
        let mut all = self.list_protections(namespace, key);
        if let Some((prefix, resource)) = after {
            all.retain(|it| (it.0.as_str(), it.1.as_str()) > (prefix.as_str(), resource.as_str()));
        }
        let is_last = all.len() <= count;
        all.truncate(count);
        Told::Protections { all, is_last }
    }

    /// Prefix, resource and revision of each, as they are listed.
    pub(crate) fn list_protections(
        &self,
        namespace: &str,
        key: Option<&str>,
    ) -> Vec<(String, String, u64)> {
        let all = self.protections_of(namespace, key).into_iter();
        all.map(|it| (it.prefix.clone(), it.resource.clone(), it.revision)).collect()
    }
}

/// Somebody who may write under this resource carries these.
fn is_carried(resource: &str, carried: &[Target]) -> bool {
    carried.iter().any(|it| claims::covers(it, resource))
}
