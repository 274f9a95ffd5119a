use super::*;
use crate::work::{Runtime, Worker};
use std::collections::BTreeSet;

pub(crate) fn gun(classes: &[Class], events: u64, events_per_file: u64) -> GenerateShowers {
    GenerateShowers {
        classes: classes.iter().copied().map(Placed::unplaced).collect(),
        events: Events::Each(events),
        energy: energy(),
        events_per_file: Placed::unplaced(events_per_file),
        seed: None,
        weights: None,
    }
}

/// All batches of every unit, with only these columns where some are named.
pub(crate) fn read(gun: &GenerateShowers, only: Option<&[&str]>) -> Vec<(Unit, Vec<RecordBatch>)> {
    let facts = Facts { seed: 2017, ..Facts::default() };
    let mut planned = gun.plan(&facts, &[]).unwrap();
    if let Some(only) = only {
        let schema = &planned.outputs[0].schema;
        let kept: Vec<_> = schema.fields().iter().filter(|f| only.contains(&f.name().as_str())).cloned().collect();
        planned.outputs[0].schema = Arc::new(Schema::new_with_metadata(kept, schema.metadata().clone()));
    }
    let start = Start {
        worker: Worker { index: 0, peers: 1 },
        facts: &facts,
        inputs: &[],
        outputs: &planned.outputs,
        runtime: &Runtime::default(),
    };
    let Work::Source(mut source) = gun.start(&start).unwrap() else { panic!("a source") };
    let units = planned.units.into_iter();
    units.map(|unit| (unit.clone(), source.read(&unit).unwrap().map(|b| b.unwrap()).collect())).collect()
}

fn of_class(read: &[(Unit, Vec<RecordBatch>)], class: Class) -> RecordBatch {
    let batches: Vec<&RecordBatch> =
        read.iter().filter(|(u, _)| u.sample.as_deref() == Some(class.name())).flat_map(|(_, b)| b).collect();
    arrow::compute::concat_batches(&batches[0].schema(), batches).unwrap()
}

#[test]
fn units_may_be_cut_anywhere() {
    let classes = [Class::Pi0, Class::Pion];
    let whole = read(&gun(&classes, 150, 500), None);
    let cut = read(&gun(&classes, 150, 47), None);
    assert_eq!(whole.len(), 2);
    assert_eq!(whole[0].1.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [128, 22]);
    assert_eq!(
        cut.iter().map(|(u, _)| (u.sample.clone().unwrap(), u.first, u.rows)).collect::<Vec<_>>()[..3],
        [("pi0".into(), 0, 47), ("pion".into(), 0, 47), ("pi0".into(), 47, 47)]
    );
    for class in classes {
        assert_eq!(of_class(&whole, class), of_class(&cut, class));
    }
}

#[test]
fn columns_that_nobody_reads_are_not_made() {
    let whole = read(&gun(&[Class::Electron], 20, 500), None);
    let some = read(&gun(&[Class::Electron], 20, 500), Some(&["hcal", "event", "energy"]));
    let none = read(&gun(&[Class::Electron], 20, 500), Some(&["pdg", "energy"]));
    for narrow in [&some, &none] {
        let (narrow, whole) = (of_class(narrow, Class::Electron), of_class(&whole, Class::Electron));
        for field in narrow.schema().fields() {
            assert_eq!(narrow.column_by_name(field.name()), whole.column_by_name(field.name()));
        }
    }
    assert_eq!(none[0].1[0].num_columns(), 2);
}

#[test]
fn every_event_has_its_own_identity() {
    let read = read(&gun(&Class::ALL, 30, 8), Some(&["event"]));
    let mut seen = BTreeSet::<u64>::new();
    for (_, batches) in &read {
        for batch in batches {
            seen.extend(batch.column(0).as_any().downcast_ref::<arrow::array::UInt64Array>().unwrap().values());
        }
    }
    assert_eq!(seen.len(), 120);
}

#[test]
fn all_mistakes_are_found_at_once() {
    let mut wrong = gun(&[Class::Pion, Class::Pion], 1, 0);
    wrong.energy.value = [20.0, 10.0];
    wrong.events = Events::Of(BTreeMap::from([(Class::Photon, 3)]));
    let problems = wrong.plan(&Facts::default(), &[]).unwrap_err();
    let what: Vec<&str> = problems.iter().map(|p| p.what.as_str()).collect();
    assert_eq!(
        what,
        [
            "no range of energies: 20 to 10 GeV",
            "a file needs at least one event",
            "`pion` is listed twice",
            "`events` has `photon`, which is not among the classes"
        ]
    );
}

#[test]
fn events_are_one_number_or_one_by_class() {
    let read = |text| serde_json::from_str::<Events>(text);
    assert_eq!(read("5").unwrap(), Events::Each(5));
    assert_eq!(
        read(r#"{"electron": 5, "pion": 7}"#).unwrap(),
        Events::Of(BTreeMap::from([(Class::Electron, 5), (Class::Pion, 7)]))
    );
    assert!(read("-5").is_err());
    assert!(read(r#"{"elektron": 5}"#).unwrap_err().to_string().contains("electron"));
}
