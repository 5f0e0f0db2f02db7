//! Who holds which hardware thread. Two elastic threads never share one, nor does an elastic thread
//! share one with background threads.

use std::collections::{BTreeMap, BTreeSet};

use ix_api::{CoreMap, HardwareThread, Holder, Kind, Refusal, Use};

use crate::topology::{Place, Topology};

/// The machine's hardware threads and their holders.
#[derive(Debug, Clone)]
pub struct Assignment {
    topology: Topology,
    reserved: BTreeSet<u32>,
    holders: BTreeMap<u32, Holder>,
}

impl Assignment {
    /// All hardware threads but the `reserved` ones are free.
    pub fn new(topology: Topology, reserved: impl IntoIterator<Item = u32>) -> Assignment {
        Assignment {
            topology,
            reserved: reserved.into_iter().collect(),
            holders: BTreeMap::new(),
        }
    }

    /// The hardware threads that Linux keeps.
    pub fn reserved(&self) -> impl Iterator<Item = u32> + '_ {
        let places = self.topology.places().iter();
        places
            .map(|place| place.id)
            .filter(|id| self.reserved.contains(id))
    }

    /// Number of hardware threads that nobody holds.
    pub fn free(&self) -> usize {
        self.places_free().count()
    }

    /// The hardware thread that would be granted next: one on a core that is free as a whole, and only
    /// when there is none, the sibling of a busy one. Cores on which `dataplane` runs already come
    /// first among siblings, so that dataplanes share no core as long as that can be avoided.
    pub fn next_for(&self, dataplane: &str) -> Option<u32> {
        self.places_free()
            .min_by_key(|place| (self.cost(place, dataplane), place.package, place.id))
            .map(|place| place.id)
    }

    /// Gives hardware thread `id` to `holder`.
    pub fn take(&mut self, id: u32, holder: Holder) -> Result<(), Refusal> {
        match self.use_of(id) {
            None => Err(Refusal::new(
                Kind::Absent,
                format!("there is no hardware thread {id}"),
                "`ixctl cores` lists those that there are",
            )),
            Some(Use::Reserved) => Err(Refusal::new(
                Kind::Conflict,
                format!("hardware thread {id} is reserved for Linux"),
                "choose another one, or change `reserved` in the daemon's configuration",
            )),
            Some(Use::Granted(other)) => Err(Refusal::new(
                Kind::Conflict,
                format!("hardware thread {id} is held by {other}"),
                match other.thread {
                    Some(_) => format!("`ixctl revoke {} --core {id}` frees it", other.dataplane),
                    None => "choose another one".to_owned(),
                },
            )),
            Some(Use::Free) => {
                self.holders.insert(id, holder);
                Ok(())
            }
        }
    }

    /// Takes hardware thread `id` back.
    pub fn release(&mut self, id: u32) {
        self.holders.remove(&id);
    }

    /// Takes back all that a dataplane holds.
    pub fn release_all(&mut self, dataplane: &str) {
        self.holders
            .retain(|_, holder| holder.dataplane != dataplane);
    }

    /// Why `wanted` more hardware threads cannot be granted, with who holds those that are taken.
    pub fn over_asked(&self, wanted: usize) -> Refusal {
        let mut held: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (id, holder) in &self.holders {
            let ids = held.entry(&holder.dataplane).or_default();
            ids.push(id.to_string());
        }
        let mut holders: Vec<String> = held
            .iter()
            .map(|(name, ids)| format!("{name} holds {}", ids.join(", ")))
            .collect();
        let reserved: Vec<String> = self.reserved().map(|id| id.to_string()).collect();
        if !reserved.is_empty() {
            holders.push(format!("Linux keeps {}", reserved.join(", ")));
        }
        Refusal::new(
            Kind::Conflict,
            format!(
                "{wanted} hardware thread{} asked for, {} free: {}",
                if wanted == 1 { "" } else { "s" },
                self.free(),
                holders.join("; ")
            ),
            "revoke some with `ixctl revoke`, or ask for fewer",
        )
    }

    /// The whole map.
    pub fn map(&self, emulated: bool) -> CoreMap {
        let places = self.topology.places().iter();
        let threads = places.filter_map(|place| {
            Some(HardwareThread {
                id: place.id,
                core: place.core,
                package: place.package,
                used: self.use_of(place.id)?,
            })
        });
        CoreMap {
            emulated,
            threads: threads.collect(),
        }
    }

    fn use_of(&self, id: u32) -> Option<Use> {
        self.topology.places().iter().find(|place| place.id == id)?;
        Some(match self.holders.get(&id) {
            Some(holder) => Use::Granted(holder.clone()),
            None if self.reserved.contains(&id) => Use::Reserved,
            None => Use::Free,
        })
    }

    fn places_free(&self) -> impl Iterator<Item = &Place> {
        let places = self.topology.places().iter();
        places.filter(|place| self.use_of(place.id) == Some(Use::Free))
    }

    /// How bad a hardware thread is for a dataplane, by who is on its siblings.
    fn cost(&self, place: &Place, dataplane: &str) -> u32 {
        let siblings = self.topology.siblings(place.id);
        let holders: Vec<&str> = siblings
            .filter(|sibling| sibling.id != place.id)
            .filter_map(|sibling| self.holders.get(&sibling.id))
            .map(|holder| holder.dataplane.as_str())
            .collect();
        match holders.as_slice() {
            [] => 0,
            holders if holders.iter().all(|holder| *holder == dataplane) => 1,
            _ => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn holder(dataplane: &str, thread: u32) -> Holder {
        Holder {
            dataplane: dataplane.to_owned(),
            thread: Some(thread),
        }
    }

    /// Four cores with two hardware threads each: n and n + 4.
    fn hyperthreads(reserved: &[u32]) -> Assignment {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("online"), "0-7").unwrap();
        for id in 0..8 {
            let topology = folder.path().join(format!("cpu{id}/topology"));
            fs::create_dir_all(&topology).unwrap();
            let siblings = format!("{},{}", id % 4, id % 4 + 4);
            fs::write(topology.join("thread_siblings_list"), siblings).unwrap();
            fs::write(topology.join("physical_package_id"), "0").unwrap();
        }
        let topology = Topology::read(folder.path()).unwrap();
        Assignment::new(topology, reserved.iter().copied())
    }

    fn grant(assignment: &mut Assignment, dataplane: &str, thread: u32) -> u32 {
        let id = assignment.next_for(dataplane).unwrap();
        assignment.take(id, holder(dataplane, thread)).unwrap();
        id
    }

    #[test]
    fn whole_cores_come_before_hyperthreads() {
        let mut assignment = hyperthreads(&[0, 4]);
        let ids: Vec<u32> = (0..4).map(|n| grant(&mut assignment, "a", n)).collect();
        assert_eq!(ids, [1, 2, 3, 5]);
    }

    #[test]
    fn a_dataplane_gets_siblings_of_its_own_before_those_of_others() {
        let mut assignment = hyperthreads(&[0, 4]);
        assert_eq!(grant(&mut assignment, "a", 0), 1);
        assert_eq!(grant(&mut assignment, "b", 0), 2);
        assert_eq!(grant(&mut assignment, "a", 1), 3);
        assert_eq!(grant(&mut assignment, "b", 1), 6);
        assert_eq!(grant(&mut assignment, "a", 2), 5);
    }

    #[test]
    fn nobody_gets_what_another_one_holds_or_linux_keeps() {
        let mut assignment = hyperthreads(&[0]);
        assignment.take(3, holder("a", 0)).unwrap();
        let refusal = assignment.take(3, holder("b", 0)).unwrap_err();
        assert!(refusal.reason.contains("held by a (thread 0)"), "{refusal}");
        assert!(
            refusal.remedy.contains("ixctl revoke a --core 3"),
            "{refusal}"
        );
        let refusal = assignment.take(0, holder("b", 0)).unwrap_err();
        assert!(refusal.reason.contains("reserved for Linux"), "{refusal}");
        let background = Holder {
            thread: None,
            ..holder("a", 0)
        };
        assignment.take(5, background).unwrap();
        let refusal = assignment.take(5, holder("b", 0)).unwrap_err();
        assert!(
            refusal.reason.contains("held by a (background)"),
            "{refusal}"
        );
        assert_eq!(refusal.remedy, "choose another one");
        let refusal = assignment.take(8, holder("b", 0)).unwrap_err();
        assert_eq!(refusal.kind, Kind::Absent);
        assignment.release(3);
        assignment.take(3, holder("b", 0)).unwrap();
    }

    #[test]
    fn over_asking_names_the_holders() {
        let mut assignment = Assignment::new(Topology::emulated(3), [0]);
        grant(&mut assignment, "a", 0);
        grant(&mut assignment, "b", 0);
        assert_eq!(assignment.next_for("a"), None);
        let refusal = assignment.over_asked(2);
        assert_eq!(
            refusal.reason,
            "2 hardware threads asked for, 0 free: a holds 1; b holds 2; Linux keeps 0"
        );
        assignment.release_all("a");
        assert_eq!(assignment.free(), 1);
    }

    #[test]
    fn the_map_says_what_each_hardware_thread_is_used_for() {
        let mut assignment = Assignment::new(Topology::emulated(3), [0]);
        grant(&mut assignment, "a", 7);
        let map = assignment.map(true);
        let uses: Vec<Use> = map.threads.into_iter().map(|thread| thread.used).collect();
        assert_eq!(
            uses,
            [Use::Reserved, Use::Granted(holder("a", 7)), Use::Free]
        );
    }
}
