package guest_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"devlxd/guest"
)

func Example() {
	c := guest.New("")
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	role, err := c.WaitKey(ctx, "user.role")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("this is a", role)
	if err := c.SetState(ctx, guest.Ready); err != nil {
		log.Fatal(err)
	}
}

func ExampleClient_Events() {
	c := guest.New("")
	defer c.Close()
	ctx := context.Background()
	for event, err := range c.Events(ctx, guest.EventsOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		switch event.Type {
		case guest.EventSync:
			config, err := c.Config(ctx)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println("all is", config)
		case guest.EventConfig:
			fmt.Println(event.Config.Key, "is", event.Config.Value)
		case guest.EventDevice:
			fmt.Println(event.Device.Name, "was", event.Device.Action)
		}
	}
}

func ExampleClient_ExportImage() {
	c := guest.New("")
	defer c.Close()
	file, err := os.Create("image.tar.xz")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	_, err = c.ExportImage(context.Background(), os.Args[1], file, guest.ExportOptions{
		Progress: func(done, total int64) { fmt.Printf("\r%d of %d bytes", done, total) },
	})
	if err != nil {
		log.Fatal(err)
	}
}
