use super::*;

#[test]
#[ignore = "prints how fast each kernel is"]
fn speed_of_every_kernel() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(std::env::var("TH").unwrap().parse().unwrap()).build().unwrap();
    for (rows, inputs, outputs) in [(800, 768, 3072), (800, 3072, 768), (50, 768, 3072), (50, 3072, 768)] {
        let x: Vec<f32> = (0..rows * inputs).map(|at| ((at * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
        let w: Vec<f32> = (0..outputs * inputs).map(|at| ((at * 104_729) % 1000) as f32 / 500.0 - 1.0).collect();
        for kernel in amx::VARIANTS.iter().chain(kernels().into_iter().filter(|k| k.name.contains("512"))) {
            let weights = Weights::pack(kernel, outputs, inputs, &w);
            let mut out = vec![0.0; rows * outputs];
            let mut run = |count: usize| {
                let start = std::time::Instant::now();
                for _ in 0..count {
                    pool.install(|| multiply(Matrix::new(&x, inputs), None, &weights, &Epilogue::default(), &mut out));
                }
                start.elapsed().as_secs_f64() / count as f64
            };
            let once = run(1);
            let count = ((0.15 / once) as usize).clamp(2, 500);
            let best = (0..3).map(|_| run(count)).fold(f64::MAX, f64::min);
            println!(
                "{rows}x{inputs}x{outputs} {:24} {:8.1} GFLOP/s",
                kernel.name,
                2e-9 * (rows * inputs * outputs) as f64 / best
            );
        }
    }
}
