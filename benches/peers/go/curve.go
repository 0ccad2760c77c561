package main

import (
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Scaling curves, one shot a process: see gorun/src/curve.rs.

func size() int {
	n, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic("usage: NAME PROCS N")
	}
	return n
}

func once(w, metric string, sum float64, n int) {
	emit(w, "", metric, []float64{sum / float64(n)}, n, "")
}

func curveGoroutines(w string) {
	n := size()
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
	once(w, "bytes", rssBytes()-before, n)
	once(w, "ns", float64(d.Nanoseconds()), n)
}

// scatter gives a number below a million for i, in no order.
func scatter(i int) time.Duration {
	return time.Duration(uint64(i) * 0x9E3779B97F4A7C15 >> 44)
}

func curveTimers(w string) {
	n := size()
	debug.FreeOSMemory()
	before := rssBytes()
	all := make([]*time.Timer, 0, n)
	t := time.Now()
	for i := 0; i < n; i++ {
		all = append(all, time.NewTimer(time.Hour+scatter(i)*time.Microsecond))
	}
	d := time.Since(t)
	once(w, "bytes", rssBytes()-before, n)
	once(w, "ns", float64(d.Nanoseconds()), n)
	t = time.Now()
	for _, timer := range all {
		timer.Stop()
	}
	once(w, "stop_ns", float64(time.Since(t).Nanoseconds()), n)
}

func curveWaiters(w string) {
	n := size()
	c := make(chan int)
	var started atomic.Int64
	var all sync.WaitGroup
	for i := 0; i < n; i++ {
		all.Go(func() {
			started.Add(1)
			<-c
		})
	}
	for started.Load() < int64(n) {
		runtime.Gosched()
	}
	time.Sleep(50 * time.Millisecond)
	t := time.Now()
	for i := 0; i < n; i++ {
		c <- i
	}
	all.Wait()
	once(w, "ns", float64(time.Since(t).Nanoseconds()), n)
}

// curveSelect uses reflect.Select: Go's select statement has a fixed number of arms.
func curveSelect(w string) {
	arms := size()
	turns := max(4_000_000/(arms+16), 200)
	channels := make([]chan int, arms)
	cases := make([]reflect.SelectCase, arms)
	for i := range channels {
		channels[i] = make(chan int)
		cases[i] = reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(channels[i])}
	}
	answer := make(chan int)
	go func() {
		for i := 0; i < turns; i++ {
			_, v, _ := reflect.Select(cases)
			answer <- int(v.Int())
		}
	}()
	t := time.Now()
	for i := 0; i < turns; i++ {
		channels[i%arms] <- i
		<-answer
	}
	emit(w, "reflect.Select", "ns", []float64{float64(time.Since(t).Nanoseconds()) / float64(turns)}, arms, "")
}
