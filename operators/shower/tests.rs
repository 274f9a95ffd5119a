use super::*;

fn bytes(particle: Particle, image: &Image) -> (Particle, Vec<u32>) {
    (particle, image.ecal.iter().chain(&image.hcal).map(|e| e.to_bits()).collect())
}

#[test]
fn an_event_depends_on_nothing_but_its_seed_class_and_index() {
    let range = [10.0, 510.0];
    let mut one = Generator::new(7, range);
    for class in Class::ALL {
        let in_order: Vec<_> = (0..12)
            .map(|k| {
                let (particle, image) = one.event(class, k);
                bytes(particle, image)
            })
            .collect();
        for index in [11, 0, 5] {
            let mut alone = Generator::new(7, range);
            let (particle, image) = alone.event(class, index);
            assert_eq!(bytes(particle, image), in_order[index as usize], "{class:?} {index}");
            assert_eq!(alone.particle(class, index), particle);
        }
        for threads in 1..=4u64 {
            let found: Vec<_> = std::thread::scope(|scope| {
                let started: Vec<_> = (0..threads)
                    .map(|t| {
                        scope.spawn(move || {
                            let mut generator = Generator::new(7, range);
                            let mine = (t..12).step_by(threads as usize);
                            mine.map(|k| {
                                let (particle, image) = generator.event(class, k);
                                (k, bytes(particle, image))
                            })
                            .collect::<Vec<_>>()
                        })
                    })
                    .collect();
                started.into_iter().flat_map(|t| t.join().unwrap()).collect()
            });
            assert_eq!(found.len(), 12);
            for (k, event) in found {
                assert_eq!(event, in_order[k as usize], "{class:?} {k} on {threads} threads");
            }
        }
    }
}

#[test]
fn seed_class_and_index_each_make_another_event() {
    let event = |seed, class, index| {
        let mut generator = Generator::new(seed, [100.0, 100.0]);
        let (particle, image) = generator.event(class, index);
        bytes(particle, image).1
    };
    let first = event(1, Class::Photon, 1);
    assert_ne!(first, event(2, Class::Photon, 1));
    assert_ne!(first, event(1, Class::Electron, 1));
    assert_ne!(first, event(1, Class::Photon, 2));
}

#[test]
fn energies_are_finite_and_never_negative() {
    for (class, range) in Class::ALL.into_iter().flat_map(|c| [(c, [1e-3, 1.0]), (c, [9_000.0, 10_000.0])]) {
        let mut generator = Generator::new(3, range);
        for index in 0..5 {
            let (particle, image) = generator.event(class, index);
            assert!(particle.energy >= range[0] && particle.energy <= range[1]);
            assert!(image.ecal.iter().chain(&image.hcal).all(|e| e.is_finite() && *e >= 0.0), "{class:?} {range:?}");
        }
    }
}

#[test]
fn pions_have_both_signs_and_half_of_them_pass_ecal() {
    let mut generator = Generator::new(11, [50.0, 510.0]);
    let (mut positive, mut passed) = (0, 0);
    for index in 0..400 {
        let (particle, image) = generator.event(Class::Pion, index);
        positive += u32::from(particle.pdg == 211);
        passed += u32::from(image.ecal.iter().sum::<f32>() < 0.01);
    }
    // Five standard deviations of 400 draws are 50.
    assert!(positive.abs_diff(200) < 50, "{positive} of 400 are positive");
    assert!(passed.abs_diff(204) < 50, "{passed} of 400 passed: exp(-0.7) should");
}
