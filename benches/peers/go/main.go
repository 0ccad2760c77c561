// Peer benchmarks, Go side. Usage: peer-go NAME [procs]
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var procs = 2

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: peer-go NAME [procs]")
		os.Exit(2)
	}
	if len(os.Args) > 2 {
		procs, _ = strconv.Atoi(os.Args[2])
	}
	runtime.GOMAXPROCS(procs)
	f, ok := workloads[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "unknown workload", os.Args[1])
		os.Exit(3)
	}
	f(os.Args[1])
}

var workloads = map[string]func(string){
	"spawn_join":        func(w string) { perOp(w, 1_000_000, spawnJoin) },
	"spawn_join_one":    func(w string) { perOp(w, 200_000, spawnJoinOne) },
	"yield_2":           func(w string) { perOp(w, 4_000_000, func(n int) { yield(2, n) }) },
	"yield_1000":        func(w string) { perOp(w, 4_000_000, func(n int) { yield(1000, n) }) },
	"pingpong":          func(w string) { perOp(w, 1_000_000, pingpong) },
	"chan_spsc":         func(w string) { perOp(w, 5_000_000, spsc) },
	"chan_mpmc_unbuf":   func(w string) { perOp(w, 2_000_000, func(n int) { mpmc(0, n) }) },
	"chan_mpmc_128":     func(w string) { perOp(w, 2_000_000, func(n int) { mpmc(128, n) }) },
	"select2":           func(w string) { perOp(w, 1_000_000, select2) },
	"select8":           func(w string) { perOp(w, 1_000_000, select8) },
	"mutex_uncontended": func(w string) { perOp(w, 20_000_000, mutexUncontended) },
	"mutex_contended":   func(w string) { perOp(w, 8*500_000, mutexContended) },
	"skynet":            func(w string) { millis(w, 1_000_000, skynet) },
	"skynet_10k":        func(w string) { millis(w, 10_000, skynet) },
	"sieve":             func(w string) { millis(w, 1500, sieve) },
	"ring":              func(w string) { perOp(w, 2_000_000, ring) },
	"memory_25k":        func(w string) { memory(w, 25_000) },
	"memory_100k":       func(w string) { memory(w, 100_000) },
	"memory_1m":         func(w string) { memory(w, 1_000_000) },
	"sleep_many":        func(w string) { millis(w, 100_000, sleepMany) },
	"sleep_25k":         func(w string) { millis(w, 25_000, sleepMany) },
	"timer_churn":       func(w string) { perOp(w, 1_000_000, timerChurn) },
	"tcp_echo":          func(string) { tcpEcho() },
	"local_access":      localAccess,
	"fork_join":         forkJoin,
	"hog_latency":       hogLatency,
	"curve_goroutines":  curveGoroutines,
	"curve_timers":      curveTimers,
	"curve_waiters":     curveWaiters,
	"curve_select":      curveSelect,
}

// ---- reporting ----

var processStart = time.Now()

// setting reads a number from the environment.
func setting(name string, otherwise int) int {
	if v, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return v
	}
	return otherwise
}

var repetitions = setting("PEER_REPEAT", 5)

// repeat runs body once to warm up, then PEER_REPEAT times, five by default
// (fewer once the process is past 45 s), and returns each duration.
func repeat(body func()) []time.Duration {
	body()
	var out []time.Duration
	for i := 0; i < repetitions; i++ {
		if i > 0 && time.Since(processStart) > 45*time.Second {
			break
		}
		t := time.Now()
		body()
		out = append(out, time.Since(t))
	}
	return out
}

func emit(workload, variant, metric string, vals []float64, n int, extra string) {
	s := append([]float64(nil), vals...)
	sort.Float64s(s)
	v := ""
	if variant != "" {
		v = fmt.Sprintf(`"variant":%q,`, variant)
	}
	fmt.Printf(`{"peer":"go","workload":%q,%s"procs":%d,"metric":%q,"value":%.3f,"min":%.3f,"max":%.3f,"runs":%d,"n":%d%s}`+"\n",
		workload, v, procs, metric, s[len(s)/2], s[0], s[len(s)-1], len(s), n, extra)
}

func perOp(w string, n int, f func(int)) { perOpVariant(w, "", "ns_per_op", n, f) }

func perOpVariant(w, variant, metric string, n int, f func(int)) {
	var vals []float64
	for _, d := range repeat(func() { f(n) }) {
		vals = append(vals, float64(d.Nanoseconds())/float64(n))
	}
	emit(w, variant, metric, vals, n, "")
}

func millis(w string, n int, f func(int)) {
	var vals []float64
	for _, d := range repeat(func() { f(n) }) {
		vals = append(vals, float64(d.Nanoseconds())/1e6)
	}
	emit(w, "", "ms", vals, n, "")
}

// ---- spawn, yield ----

func spawnJoin(n int) {
	var wg sync.WaitGroup
	wg.Add(n)
	for i := 0; i < n; i++ {
		go wg.Done()
	}
	wg.Wait()
}

func spawnJoinOne(n int) {
	var wg sync.WaitGroup
	for i := 0; i < n; i++ {
		wg.Add(1)
		go wg.Done()
		wg.Wait()
	}
}

func yield(goroutines, n int) {
	var wg sync.WaitGroup
	for i := 0; i < goroutines; i++ {
		wg.Go(func() {
			for j := 0; j < n/goroutines; j++ {
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
}

// ---- channels ----

func pingpong(n int) {
	a, b := make(chan int), make(chan int)
	go func() {
		for v := range a {
			b <- v
		}
		close(b)
	}()
	for i := 0; i < n; i++ {
		a <- i
		<-b
	}
	close(a)
	<-b
}

func spsc(n int) {
	c := make(chan uint64, 128)
	go func() {
		for i := 0; i < n; i++ {
			c <- uint64(i)
		}
		close(c)
	}()
	sum := uint64(0)
	for v := range c {
		sum += v
	}
	check(sum == uint64(n)*uint64(n-1)/2)
}

func mpmc(capacity, n int) {
	c := make(chan uint64, capacity)
	var producers, consumers sync.WaitGroup
	var total atomic.Int64
	for p := 0; p < 4; p++ {
		producers.Go(func() {
			for i := 0; i < n/4; i++ {
				c <- uint64(i)
			}
		})
		consumers.Go(func() {
			k := int64(0)
			for range c {
				k++
			}
			total.Add(k)
		})
	}
	producers.Wait()
	close(c)
	consumers.Wait()
	check(total.Load() == int64(n))
}

func feed(k, n int) []chan uint64 {
	cs := make([]chan uint64, k)
	for i := range cs {
		c := make(chan uint64)
		cs[i] = c
		go func() {
			for j := 0; j < n/k; j++ {
				c <- uint64(j)
			}
		}()
	}
	return cs
}

func select2(n int) {
	cs := feed(2, n)
	a, b := cs[0], cs[1]
	for i := 0; i < n; i++ {
		select {
		case <-a:
		case <-b:
		}
	}
}

func select8(n int) {
	cs := feed(8, n)
	c0, c1, c2, c3, c4, c5, c6, c7 := cs[0], cs[1], cs[2], cs[3], cs[4], cs[5], cs[6], cs[7]
	for i := 0; i < n; i++ {
		select {
		case <-c0:
		case <-c1:
		case <-c2:
		case <-c3:
		case <-c4:
		case <-c5:
		case <-c6:
		case <-c7:
		}
	}
}

// ---- mutex ----

func mutexUncontended(n int) {
	var mu sync.Mutex
	x := 0
	for i := 0; i < n; i++ {
		mu.Lock()
		x++
		mu.Unlock()
	}
	check(x == n)
}

func mutexContended(n int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	x := 0
	for g := 0; g < 8; g++ {
		wg.Go(func() {
			for i := 0; i < n/8; i++ {
				mu.Lock()
				x++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	check(x == n)
}

// ---- skynet, sieve, ring ----

func skynetNode(out chan<- int, num, size int) {
	if size == 1 {
		out <- num
		return
	}
	c := make(chan int)
	for i := 0; i < 10; i++ {
		go skynetNode(c, num+i*size/10, size/10)
	}
	sum := 0
	for i := 0; i < 10; i++ {
		sum += <-c
	}
	out <- sum
}

func skynet(n int) {
	c := make(chan int)
	go skynetNode(c, 0, n)
	check(<-c == n*(n-1)/2)
}

func sieveFilter(in <-chan int, out chan<- int, p int) {
	for {
		if v := <-in; v%p != 0 {
			out <- v
		}
	}
}

// The goroutines of a run stay blocked for ever, as in the classical program.
func sieve(n int) {
	c := make(chan int)
	go func(c chan<- int) {
		for i := 2; ; i++ {
			c <- i
		}
	}(c)
	p := 0
	for i := 0; i < n; i++ {
		p = <-c
		d := make(chan int)
		go sieveFilter(c, d, p)
		c = d
	}
	check(n != 1500 || p == 12553)
}

func ring(n int) {
	const size = 503
	cs := make([]chan int, size)
	for i := range cs {
		cs[i] = make(chan int)
	}
	done := make(chan struct{})
	for i := range cs {
		in, out := cs[i], cs[(i+1)%size]
		go func() {
			for v := range in {
				if v == 0 {
					close(done)
					return
				}
				out <- v - 1
			}
		}()
	}
	cs[0] <- n
	<-done
	for _, c := range cs {
		close(c)
	}
}

// ---- memory ----

func rssBytes() float64 {
	b, _ := os.ReadFile("/proc/self/status")
	for _, l := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(l, "VmRSS:") {
			kb, _ := strconv.Atoi(strings.Fields(l)[1])
			return float64(kb) * 1024
		}
	}
	return 0
}

// One shot; run.sh starts five processes and takes the median.
func memory(w string, n int) {
	debug.FreeOSMemory()
	before := rssBytes()
	block := make(chan struct{})
	var started atomic.Int64
	t := time.Now()
	for i := 0; i < n; i++ {
		go func() {
			started.Add(1)
			<-block
		}()
	}
	for started.Load() < int64(n) {
		runtime.Gosched()
	}
	d := time.Since(t)
	time.Sleep(300 * time.Millisecond)
	after := rssBytes()
	emit(w, "", "bytes_per_goroutine", []float64{(after - before) / float64(n)}, n, "")
	emit(w, "", "create_ns", []float64{float64(d.Nanoseconds()) / float64(n)}, n, "")
	close(block)
}

// ---- timers ----

func sleepMany(n int) {
	var wg sync.WaitGroup
	wg.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			time.Sleep(100 * time.Millisecond)
			wg.Done()
		}()
	}
	wg.Wait()
}

func timerChurn(n int) {
	for i := 0; i < n; i++ {
		time.NewTimer(time.Hour).Stop()
	}
}

// ---- tcp echo: the server only, loadgen measures ----

func tcpEcho() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("LISTEN", l.Addr().(*net.TCPAddr).Port)
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 4096)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				if _, err := c.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}

// ---- fork/join ----

func fib(n int) int {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

func parFib(n int) int {
	if n <= 16 {
		return fib(n)
	}
	c := make(chan int)
	go func() { c <- parFib(n - 1) }()
	b := parFib(n - 2)
	return <-c + b
}

func forkJoin(w string) {
	const reps = 20
	for _, v := range []struct {
		variant string
		f       func(int) int
	}{{"", parFib}, {"sequential", fib}} {
		var vals []float64
		for _, d := range repeat(func() {
			for i := 0; i < reps; i++ {
				check(v.f(32) == 2178309)
			}
		}) {
			vals = append(vals, float64(d.Nanoseconds())/1e6/reps)
		}
		emit(w, v.variant, "ms", vals, 32, "")
	}
}

// ---- hog latency ----

var hogSink atomic.Uint64

// hog spins without any call or yield in chunks of some tens of ms.
func hog(deadline time.Time) {
	x := uint64(88172645463325252)
	for time.Now().Before(deadline) {
		for i := 0; i < 30_000_000; i++ {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
	}
	hogSink.Store(x)
}

func hogRun() (delays []float64, starved bool) {
	var from atomic.Int64 // ns since base; 0 = hogs not started
	base := time.Now()
	length := time.Duration(setting("PEER_HOG_MS", 3000)) * time.Millisecond
	var wg sync.WaitGroup
	progress := 0
	wg.Go(func() {
		for {
			t := time.Now()
			time.Sleep(time.Millisecond)
			now := time.Now()
			f := from.Load()
			if f == 0 {
				continue
			}
			delays = append(delays, float64(now.Sub(t).Nanoseconds())/1e3)
			ran := now.Sub(base) - time.Duration(f)
			if ran >= length {
				return
			}
			if ran > 50*time.Millisecond {
				progress++
			}
		}
	})
	time.Sleep(20 * time.Millisecond)
	start := time.Now()
	from.Store(int64(start.Sub(base)))
	for i := 0; i < procs; i++ {
		wg.Go(func() { hog(start.Add(length)) })
	}
	wg.Wait()
	return delays, progress == 0
}

func hogLatency(w string) {
	var p50, p99, most, count []float64
	starved := 0
	for i := 0; i <= repetitions; i++ {
		d, s := hogRun()
		if i == 0 {
			continue
		}
		sort.Float64s(d)
		p50 = append(p50, d[len(d)/2])
		p99 = append(p99, d[len(d)*99/100])
		most = append(most, d[len(d)-1])
		count = append(count, float64(len(d)))
		if s {
			starved++
		}
	}
	sort.Float64s(count)
	extra := fmt.Sprintf(`,"starved_runs":%d,"samples":%.0f`, starved, count[len(count)/2])
	emit(w, "", "p50_us", p50, procs, extra)
	emit(w, "", "p99_us", p99, procs, extra)
	emit(w, "", "max_us", most, procs, extra)
}

func check(ok bool) {
	if !ok {
		panic("wrong result")
	}
}
